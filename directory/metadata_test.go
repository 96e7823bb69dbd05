package directory

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"rcpt-milter/testenv/adsim"
)

// metaData writes a value of replPropertyMetaData with one entry for each attribute.
func metaData(version uint32, at time.Time, attributes ...uint32) []byte {
	le := binary.LittleEndian
	blob := le.AppendUint32(nil, version)
	blob = le.AppendUint32(blob, 0)
	blob = le.AppendUint64(blob, uint64(len(attributes)))
	for i, a := range attributes {
		blob = le.AppendUint32(blob, a)
		blob = le.AppendUint32(blob, 1)
		blob = le.AppendUint64(blob, uint64(at.Unix()+epoch1601))
		blob = append(blob, bytes.Repeat([]byte{7}, 16)...)
		blob = le.AppendUint64(blob, 1000+uint64(i))
		blob = le.AppendUint64(blob, 2000)
	}
	return blob
}

func TestOriginOf(t *testing.T) {
	at := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	good := metaData(1, at, 0, 0x90001, attrIsDeleted)
	tooMany := slices.Clone(good)
	tooMany[8] = 4
	found := Origin{Time: at, Database: GUID(bytes.Repeat([]byte{7}, 16)), USN: 1002}
	for name, c := range map[string]struct {
		blob []byte
		want Origin
	}{
		"found":                      {good, found},
		"not deleted ever":           {metaData(1, at, 0, 0x90001), Origin{}},
		"no entry":                   {metaData(1, at), Origin{}},
		"nothing":                    {nil, Origin{}},
		"another version":            {metaData(2, at, attrIsDeleted), Origin{}},
		"cut short":                  {good[:len(good)-1], Origin{}},
		"fewer entries than it says": {tooMany, Origin{}},
		"a time before 1970":         {metaData(1, time.Unix(-1, 0), attrIsDeleted), Origin{}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := parseOrigin(c.blob, attrIsDeleted); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func FuzzOriginOf(f *testing.F) {
	f.Add(metaData(1, time.Now(), 0, attrIsDeleted))
	f.Fuzz(func(t *testing.T, blob []byte) { parseOrigin(blob, attrIsDeleted) })
}

// TestDeathOfAReplica: a tombstone says when and where the object was deleted, on every
// controller that it was replicated to, whatever whenChanged says there. An object that
// came back does not.
func TestDeathOfAReplica(t *testing.T) {
	for _, origin := range []bool{false, true} {
		now := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
		d := adsim.NewDirectory(adsim.DirectoryConfig{Clock: func() time.Time { return now }, RecycleBin: true,
			OriginTimes: origin})
		guid, err := d.Add(adsim.User, "CN=Ann,CN=Users,"+d.BaseDN(), adsim.Attrs{"mail": {"ann@corp.example"}})
		if err != nil {
			t.Fatal(err)
		}
		d2 := d.NewReplica("dc2", 5000)
		now = now.Add(time.Minute)
		if err := d.Delete(guid); err != nil {
			t.Fatal(err)
		}
		deleted, usn := now, d.HighestUSN()
		now = now.Add(time.Hour)
		d2.ReplicateFrom(d, 0)
		c, _ := connect(t, d2, adsim.ServerConfig{}, nil)
		find := func(since uint64) Object {
			return must[map[GUID]Object](t)(readAll(t.Context(), c,
				since))[GUID(guid)]
		}
		o, want := find(5000), Origin{Time: deleted, Database: GUID(d.InvocationID()), USN: usn}
		if !o.Deleted || o.Deletion != want {
			t.Errorf("origin times %t: deleted %t, %+v, want %+v", origin, o.Deleted, o.Deletion, want)
		}
		if changed := map[bool]time.Time{false: now, true: deleted}[origin]; !o.Changed.Equal(changed) {
			t.Errorf("origin times %t: whenChanged %v, want %v", origin, o.Changed, changed)
		}
		if err := d2.Undelete(guid, ""); err != nil {
			t.Fatal(err)
		}
		for _, since := range []uint64{0, 5000} {
			if o := find(since); o.Deleted || o.Deletion != (Origin{}) {
				t.Errorf("after it came back, read since %d: %+v", since, o)
			}
		}
	}
}
