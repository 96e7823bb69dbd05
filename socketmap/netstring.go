package socketmap

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// maxRequest limits the bytes of a request. The longest address of RFC 5321 is far shorter, and Postfix cuts
// command lines at 2048 bytes (line_length_limit).
const maxRequest = 10_000

// errFrame reports that a peer sent something other than a netstring. It probably does not speak the socketmap
// protocol.
var errFrame = errors.New("not a socketmap request")

// readNetstring reads a netstring of at most maxRequest bytes: its length in decimal digits without leading
// zeros, a colon, the bytes and a comma. It returns io.EOF if the stream ends before the first byte.
func readNetstring(r *bufio.Reader) (string, error) {
	length, err := readLength(r)
	if err != nil {
		return "", err
	}
	text := make([]byte, length+1)
	if _, err := io.ReadFull(r, text); err != nil {
		return "", within(err)
	}
	if text[length] != ',' {
		return "", fmt.Errorf("%w: no comma after %d bytes", errFrame, length)
	}
	return string(text[:length]), nil
}

// readLength reads the length of a netstring and the colon after it.
func readLength(r *bufio.Reader) (length int, err error) {
	for digits := 0; ; digits++ {
		c, err := r.ReadByte()
		switch {
		case err != nil && digits == 0:
			return 0, err
		case err != nil:
			return 0, within(err)
		case c == ':' && digits > 0:
			return length, nil
		case c < '0' || c > '9', digits == 1 && length == 0:
			return 0, fmt.Errorf("%w: a length is followed by %q", errFrame, c)
		}
		if length = 10*length + int(c-'0'); length > maxRequest {
			return 0, fmt.Errorf("%w: it is longer than %d bytes", errFrame, maxRequest)
		}
	}
}

// appendNetstring appends text as a netstring.
func appendNetstring(out []byte, text string) []byte {
	out = append(strconv.AppendInt(out, int64(len(text)), 10), ':')
	return append(append(out, text...), ',')
}

// within returns io.ErrUnexpectedEOF if the stream ends within a request.
func within(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
