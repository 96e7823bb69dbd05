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
// streams and writes its own reports. A hub writes streams and leases.
//
// The engine checks the subject of a request, but not the subject of the answer to it. An edge can therefore
// make an answer appear in a stream. For this reason, each message states the subject that it belongs to.
func Permissions(role Role, name string, directories []string) Perms {
	p := Perms{Subscribe: []string{inboxPrefix(name) + ".>"}}
	for _, dir := range directories {
		p.Publish = append(p.Publish, readAPI(streamName(dir))...)
		if role == HubRole {
			p.Publish = append(p.Publish, allObjects(dir), stateSubject(dir), leaseSubject(dir),
				leaseSubject(dir)+waitSuffix)
			p.Publish = append(p.Publish, writeAPI(streamName(dir))...)
			p.Subscribe = append(p.Subscribe, findSubject(dir))
		} else {
			p.Publish = append(p.Publish, edgeSubject(dir, name), findSubject(dir))
		}
	}
	if role == HubRole {
		p.Publish = append(p.Publish, "$JS.API.INFO", "_INBOX.>") // _INBOX is for answers to edges
		for _, stream := range []string{edgesStream, leaseStream} {
			p.Publish = append(p.Publish, readAPI(stream)...)
			p.Publish = append(p.Publish, writeAPI(stream)...)
		}
		p.Publish = append(p.Publish, directAPI(leaseStream)...)
	}
	return p
}

// readAPI returns the JetStream requests that are needed to read a stream.
func readAPI(stream string) []string {
	return []string{
		"$JS.API.STREAM.INFO." + stream,
		"$JS.API.STREAM.MSG.GET." + stream,
		"$JS.API.CONSUMER.CREATE." + stream,
		"$JS.API.CONSUMER.CREATE." + stream + ".>",
		"$JS.API.CONSUMER.MSG.NEXT." + stream + ".>",
		"$JS.API.CONSUMER.DELETE." + stream + ".>",
	}
}

// directAPI returns the JetStream requests that are needed to read a bucket. The engine answers them with the
// bare message, so edges do not get them.
func directAPI(stream string) []string {
	return []string{"$JS.API.DIRECT.GET." + stream, "$JS.API.DIRECT.GET." + stream + ".>"}
}

// writeAPI returns the JetStream requests that are needed to create a stream.
func writeAPI(stream string) []string {
	return []string{"$JS.API.STREAM.CREATE." + stream, "$JS.API.STREAM.UPDATE." + stream}
}
