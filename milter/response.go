package milter

import (
	"strings"

	gomilter "github.com/emersion/go-milter"

	"rcpt-milter/policy"
)

// response is a reply in the milter protocol: continue, or a full reply of type y. The
// shorter ones do harm: accept at RCPT switches the filter off for the rest of the message,
// and reject and tempfail use a text of the MTA.
func response(r policy.Reply) gomilter.Response {
	if r.IsContinue() {
		return gomilter.RespContinue
	}
	// The MTA reads %% as %.
	text := strings.ReplaceAll(r.String(), "%", "%%")
	return gomilter.NewResponse(byte(gomilter.ActReplyCode), append(append(make([]byte, 0, len(text)+1), text...), 0))
}
