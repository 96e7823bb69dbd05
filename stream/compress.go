package stream

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
)

// gzipMagic starts a compressed message. JSON text never starts with it.
var gzipMagic = []byte{0x1f, 0x8b}

// compress returns the message of a large object in compressed form.
func compress(data []byte) ([]byte, error) {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// expand returns the JSON text of a message, which may be compressed. It limits the size before and after.
func expand(data []byte) ([]byte, error) {
	if len(data) > maxPayload {
		return nil, fmt.Errorf("%w: it has more than %d bytes", errPayload, maxPayload)
	}
	if !bytes.HasPrefix(data, gzipMagic) {
		return data, nil
	}
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errPayload, err)
	}
	out, err := io.ReadAll(io.LimitReader(r, maxPlain+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errPayload, err)
	case len(out) > maxPlain:
		return nil, fmt.Errorf("%w: it expands to more than %d bytes", errPayload, maxPlain)
	}
	return out, nil
}
