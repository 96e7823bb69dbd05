package engine

import (
	"testing"
	"time"

	"github.com/nats-io/nkeys"
)

// FuzzTakeOver: whatever another node of the cluster stores, only a member that Add could have enrolled
// gets rights, and it keeps its meaning in the file of the members.
func FuzzTakeOver(f *testing.F) {
	pair, err := nkeys.FromRawSeed(nkeys.PrefixByteUser, make([]byte, 32))
	if err != nil {
		f.Fatal(err)
	}
	key, err := pair.PublicKey()
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{`{"name":"mx1","role":"edge","directories":["corp"],"key":"` + key + `"}`,
		`{"name":"hub","role":"hub","directories":["corp","lab.x"],"key":"` + key + `","added":"2026-03-04T05:06:07Z"}`,
		`{"name":">","role":"edge","directories":["corp"],"key":"` + key + `"}`,
		`{"name":"mx1","role":"node","directories":["*"],"key":"` + key + `"}`,
		`{"name":"mx1","role":"edge","directories":[],"key":""}`, `null`, `[]`, `{}`, "\xff"} {
		f.Add("mx1", []byte(seed))
		f.Add("hub", []byte(seed))
	}
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		dir := t.TempDir()
		m, err := openMembers(dir, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		e := &Engine{members: m}
		if err := e.takeOver(name, data); err != nil {
			if len(m.all) > 0 {
				t.Fatalf("%q under %q: %v, and %+v", data, name, err, m.all)
			}
			return
		}
		got, known := m.get(name)
		if !known || got.Name != name || checkName(name) != nil || checkDirectories(got.Directories) != nil ||
			got.Role != Hub && got.Role != Edge || !nkeys.IsValidPublicUserKey(got.Key) {
			t.Fatalf("%q under %q gives %+v", data, name, m.all)
		}
		again, err := openMembers(dir, time.Now)
		if err != nil || !again.all[name].same(got) {
			t.Fatalf("%+v is read as %+v, %v", got, again, err)
		}
	})
}
