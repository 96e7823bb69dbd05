package stream

// Role determines what a client of the engine may do.
type Role string

const (
	HubRole  Role = "hub"  // publishes directories
	EdgeRole Role = "edge" // follows directories
)

// Perms lists the subjects that a client may use. All other subjects are denied.
type Perms struct {
	Publish   []string
	Subscribe []string
}

// Permissions returns the subjects that a client of this name may use for these directories. An edge reads
// streams and writes its own reports. A hub writes messages and leases. Neither may create or change a stream,
// because the settings of a stream can make it copy the messages of others.
//
// The engine checks the subject of a request, but not the subject of the answer to it. A member can therefore
// make an answer appear in a stream. For this reason, each message states the subject that it belongs to. An empty
// answer, such as that of a consumer without messages, can also delete any stream. An engine of a daemon denies that.
// At another server the hub then creates the stream again, and publishes everything again.
func Permissions(role Role, name string, directories []string) Perms {
	p := Perms{Subscribe: []string{inboxPrefix(name) + ".>"}}
	for _, dir := range directories {
		p.Publish = append(p.Publish, readAPI(streamName(dir))...)
		if role == HubRole {
			p.Publish = append(p.Publish, allObjects(dir), stateSubject(dir), leaseSubject(dir),
				leaseSubject(dir)+waitSuffix)
			p.Subscribe = append(p.Subscribe, findSubject(dir))
		} else {
			p.Publish = append(p.Publish, edgeSubject(dir, name), findSubject(dir))
		}
	}
	if role == HubRole {
		p.Publish = append(p.Publish, "_INBOX.>") // for answers to edges
		for _, stream := range []string{edgesStream, leaseStream} {
			p.Publish = append(p.Publish, messageAPI(stream)...)
		}
	}
	return p
}

// CreatePermissions returns the subjects that a hub of these directories may publish to in addition, at a NATS
// server that no daemon runs. There, the hub creates and corrects the streams itself.
func CreatePermissions(directories []string) (publish []string) {
	for _, dir := range directories {
		publish = append(publish, createAPI(streamName(dir))...)
	}
	return append(append(publish, createAPI(edgesStream)...), createAPI(leaseStream)...)
}

// readAPI returns the JetStream requests that are needed to read a stream.
func readAPI(stream string) []string {
	return append(messageAPI(stream),
		"$JS.API.CONSUMER.CREATE."+stream,
		"$JS.API.CONSUMER.CREATE."+stream+".>",
		"$JS.API.CONSUMER.MSG.NEXT."+stream+".>",
		"$JS.API.CONSUMER.DELETE."+stream+".>",
	)
}

// messageAPI returns the JetStream requests that are needed to read single messages of a stream. $JS.API.DIRECT.GET is
// not among them: its answer is the bare message, which could be sent to the subject of another message.
func messageAPI(stream string) []string {
	return []string{"$JS.API.STREAM.INFO." + stream, "$JS.API.STREAM.MSG.GET." + stream}
}

// createAPI returns the JetStream requests that are needed to create and correct a stream.
func createAPI(stream string) []string {
	return []string{"$JS.API.STREAM.CREATE." + stream, "$JS.API.STREAM.UPDATE." + stream}
}
