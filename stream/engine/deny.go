package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// denied are the requests that no host of a fleet needs. A member may not publish them. But the server checks the
// subject of a request only, and not that of the answer to it: an answer without a message, such as that of a consumer
// that has none, is a request with an empty body if it goes to the subject of one. The acknowledgement of a message can
// be a request too. The server rejects it because of its fields, but only in strict mode; a restore needs no others.
// Messages are no requests: the server passes a message on under the subject that it was published to.
var denied = []string{
	server.JSApiStreamDelete, server.JSApiStreamPurge, server.JSApiMsgDelete, server.JSApiStreamSnapshot,
	server.JSApiStreamRestore, server.JSApiStreamRemovePeer, server.JSApiStreamEvacuatePeer,
	server.JSApiStreamCancelMove,
	server.JSApiStreamLeaderStepDown, server.JSApiConsumerLeaderStepDown, server.JSApiConsumerRemovePeer,
	server.JSApiConsumerEvacuatePeer, server.JSApiConsumerPause, server.JSApiConsumerUnpin,
}

// deniedSubject has no subscriber.
const deniedSubject = "rcpt-milter.denied"

// deny makes the server drop the denied requests, wherever they come from: all requests to JetStream pass through the
// mappings of the system account.
func (e *Engine) deny() error {
	e.denying.Lock()
	defer e.denying.Unlock()
	system := e.server.SystemAccount()
	if system == nil {
		return errors.New("the engine cannot deny requests: its server has no system account")
	}
	for _, subject := range denied {
		if err := system.AddMapping(subject, deniedSubject); err != nil {
			return fmt.Errorf("the engine cannot deny requests to %s: %w", subject, err)
		}
	}
	return nil
}

// deleteStream deletes a stream. While it does so, the deletion of streams is not denied.
func (e *Engine) deleteStream(ctx context.Context, js jetstream.JetStream, name string) (err error) {
	e.denying.Lock()
	defer e.denying.Unlock()
	system := e.server.SystemAccount()
	system.RemoveMapping(server.JSApiStreamDelete)
	defer func() { err = cmp.Or(err, system.AddMapping(server.JSApiStreamDelete, deniedSubject)) }()
	return js.DeleteStream(ctx, name)
}
