package milter

import (
	"strings"

	gomilter "github.com/emersion/go-milter"

	"rcpt-milter/policy"
)

// response converts a reply into the milter protocol: continue, or a complete reply of type y. The shorter
// replies do harm: accept at RCPT disables the filter for the rest of the message, and reject and tempfail use
// a text of the MTA.
func response(r policy.Reply) gomilter.Response {
	if r.IsContinue() {
		return gomilter.RespContinue
	}
	// The MTA treats %% as an escaped %.
	text := strings.ReplaceAll(r.String(), "%", "%%")
	return gomilter.NewResponse(byte(gomilter.ActReplyCode), append(append(make([]byte, 0, len(text)+1), text...), 0))
}
