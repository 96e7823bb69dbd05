package stream

// Role is what a client of the engine may do.
type Role string

const (
	HubRole  Role = "hub"  // publishes directories
	EdgeRole Role = "edge" // follows directories
)

// Perms are the subjects that a client may use. Everything else is denied.
type Perms struct {
	Publish   []string
	Subscribe []string
}

// Permissions returns the subjects that a client of this name may use for some directories. An edge
// reads its streams and writes its own reports. A hub writes its streams and the lease.
//
// The engine checks the subject of a request, and not that of its answer. Answers of the engine may
// therefore appear in a stream, and messages say for themselves where they belong.
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
		p.Publish = append(p.Publish, "$JS.API.INFO", "_INBOX.>") // the latter for answers to edges
		for _, stream := range []string{edgesStream, leaseStream} {
			p.Publish = append(p.Publish, readAPI(stream)...)
			p.Publish = append(p.Publish, writeAPI(stream)...)
		}
		p.Publish = append(p.Publish, directAPI(leaseStream)...)
	}
	return p
}

// readAPI lists the requests that reading a stream needs.
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

// directAPI lists the requests that reading a bucket needs. The engine answers them with the bare
// message, so edges do without.
func directAPI(stream string) []string {
	return []string{"$JS.API.DIRECT.GET." + stream, "$JS.API.DIRECT.GET." + stream + ".>"}
}

// writeAPI lists the requests that creating a stream needs.
func writeAPI(stream string) []string {
	return []string{"$JS.API.STREAM.CREATE." + stream, "$JS.API.STREAM.UPDATE." + stream}
}
