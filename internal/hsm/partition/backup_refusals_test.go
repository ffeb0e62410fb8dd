package partition

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"moongate/internal/audit"
	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"

	"github.com/google/go-cmp/cmp"
)

func TestRestoreRefusesWhatIsThere(t *testing.T) {
	t.Parallel()
	from := newWorld(t)
	raw := from.backup()
	to := newWorld(t) // has a partition p and a client c of its own
	must(t, to.officer().DeletePartition(t.Context(), "p"))
	to.join(from)
	o := to.officer()
	must(t, o.CreatePartition(t.Context(), "p"))
	must(t, o.AssignPartition(t.Context(), "c", "p"))
	_, err := to.restore(raw, false)
	wantCode(t, err, object.ErrExists)
	old := to.fingerprint
	var cut []string
	to.OnDisconnect(func(fingerprint string) { cut = append(cut, fingerprint) })
	_, err = to.restore(raw, true)
	must(t, err)
	if !slices.Contains(cut, old) {
		t.Error("the client whose registration is gone is still connected")
	}
	for range 2 {
		list, err := to.Partitions()
		must(t, err)
		clients := to.Clients()
		if len(list) != 1 || list[0].Serial == "" || len(clients) != 1 || clients[0].Fingerprint != from.fingerprint || !slices.Equal(clients[0].Partitions, []string{"p"}) {
			t.Errorf("partitions %+v, clients %+v", list, clients)
		}
		to.restart()
	}
	to.fingerprint = from.fingerprint
	to.session(object.RoleCryptoOfficer).Close()
}

func TestRestoreRefusesOtherBackups(t *testing.T) {
	t.Parallel()
	w, stranger := newWorld(t), newWorld(t)
	raw := w.backup()
	headerEnd := bytes.Index(raw, []byte("}")) + 1 + 32
	edited := func(at int) []byte {
		out := bytes.Clone(raw)
		out[at] ^= 1
		return out
	}
	relabelled := bytes.Replace(raw, []byte(`"label":"lab"`), []byte(`"label":"bal"`), 1)
	spaced := bytes.Replace(raw, []byte(`"label":"lab"`), []byte(`"label":"la" `), 1)
	o := w.officer()
	for name, test := range map[string]struct {
		backup []byte
		says   string
	}{
		"another domain's":  {stranger.backup(), "only an HSM of its domain"},
		"nothing":           {nil, "cut off in its header"},
		"no backup":         {[]byte(strings.Repeat("moon", 20)), "no backup"},
		"another version":   {bytes.Replace(raw, []byte("version 1"), []byte("version 2"), 1), "version that is not known"},
		"a changed header":  {relabelled, "header was changed"},
		"another encoding":  {spaced, "header is malformed"},
		"a changed MAC":     {edited(headerEnd - 1), "header was changed"},
		"a huge header":     {bytes.Replace(raw, []byte("version 1\n\x00\x00"), []byte("version 1\n\x00\x7f"), 1), "at most"},
		"a cut header":      {raw[:headerEnd-40], "cut off in its header"},
		"no payload":        {raw[:headerEnd], "cut off after chunk 0"},
		"a changed payload": {edited(headerEnd + 5), "chunk 0 does not open"},
		"a changed end":     {edited(len(raw) - 1), "does not open"},
		"cut":               {raw[:len(raw)-1], "does not open"},
		"a byte more":       {append(bytes.Clone(raw), 0), "does not open"},
		"twice":             {append(bytes.Clone(raw), raw...), "does not open"},
	} {
		before := w.changes()
		_, err := o.Restore(t.Context(), bytes.NewReader(test.backup), true)
		if object.CodeOf(err) != object.ErrDataInvalid || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %q", name, err, test.says)
		}
		if diff := cmp.Diff(before, w.changes()); diff != "" {
			t.Errorf("%s: it changed (-want +got):\n%s", name, diff)
		}
	}
	if _, err := w.restore(raw, true); err != nil {
		t.Errorf("the backup itself: %v", err)
	}
}

// rewrite makes a backup of the records that edit leaves, sealed as the HSM does.
func (w *world) rewrite(raw []byte, edit func(kind byte, body []byte) [][]byte) []byte {
	w.t.Helper()
	secret, err := w.domain()
	must(w.t, err)
	r, err := newBackupReader(bytes.NewReader(raw), secret)
	must(w.t, err)
	var out bytes.Buffer
	b, err := newBackupWriter(&out, secret, r.header)
	must(w.t, err)
	for {
		kind, body, err := r.next()
		must(w.t, err)
		for _, body := range edit(kind, body) {
			must(w.t, b.record(kind, body))
		}
		if kind == recordEnd {
			must(w.t, b.chunks.Close())
			return out.Bytes()
		}
	}
}

// What is sealed for the domain and is still not what an HSM writes is refused
// before anything is changed.
func TestRestoreRefusesMalformedContents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.newKey(w.session(object.RoleCryptoOfficer))
	raw := w.backup()
	keep := func(body []byte) [][]byte { return [][]byte{body} }
	swap := func(kind byte, old, fresh string) func(byte, []byte) [][]byte {
		return func(k byte, body []byte) [][]byte {
			if k == kind {
				return keep(bytes.Replace(body, []byte(old), []byte(fresh), 1))
			}
			return keep(body)
		}
	}
	times := func(kind byte, n int) func(byte, []byte) [][]byte {
		return func(k byte, body []byte) [][]byte {
			if k == kind {
				return slices.Repeat(keep(body), n)
			}
			return keep(body)
		}
	}
	o := w.officer()
	for name, edit := range map[string]func(byte, []byte) [][]byte{
		"no manifest":   times(recordManifest, 0),
		"two manifests": times(recordManifest, 2),
		"no partition":  times(recordPartition, 0),
		"nothing of it": func(k byte, body []byte) [][]byte {
			if k == recordPartition || k == recordObject {
				return nil
			}
			return keep(body)
		},
		"a partition twice":    times(recordPartition, 2),
		"objects twice":        times(recordObject, 2),
		"no objects":           times(recordObject, 0),
		"no client":            times(recordClient, 0),
		"a client twice":       times(recordClient, 2),
		"no end":               times(recordEnd, 0),
		"two ends":             times(recordEnd, 2),
		"an unknown field":     swap(recordPartition, `"origin"`, `"orogin"`),
		"an unknown manifest":  swap(recordManifest, `"fips"`, `"fops"`),
		"an unknown client":    swap(recordClient, `"name"`, `"nome"`),
		"a client's label":     swap(recordClient, `"name":"c"`, `"name":"-c"`),
		"another certificate":  swap(recordClient, `"fingerprint":"`, `"fingerprint":"0`),
		"a partition's label":  swap(recordPartition, `"label":"p"`, `"label":"-p"`),
		"no serial":            swap(recordPartition, `"serial":"`, `"serial":" `),
		"an endless password":  swap(recordPartition, `"time":1`, `"time":99`),
		"malformed counters":   swap(recordPartition, `"uses":[null`, `"uses":["AAAA"`),
		"a role that is null":  swap(recordPartition, `"roles":{`, `"roles":{"x":null,`),
		"an unknown policy":    swap(recordPartition, `"roles":{`, `"policies":{"77":1},"roles":{`),
		"a malformed object":   swap(recordObject, "", "x"),
		"fewer members":        swap(recordPartition, `"members":2`, `"members":1`),
		"more members":         swap(recordPartition, `"members":2`, `"members":3`),
		"members beyond count": swap(recordPartition, `"members":2`, `"members":18446744073709551615`),
	} {
		before := w.changes()
		_, err := o.Restore(t.Context(), bytes.NewReader(w.rewrite(raw, edit)), true)
		if err == nil {
			t.Errorf("%s: restored", name)
		}
		if diff := cmp.Diff(before, w.changes()); diff != "" {
			t.Errorf("%s: it changed (-want +got):\n%s", name, diff)
		}
	}
	if _, err := w.restore(w.rewrite(raw, func(_ byte, body []byte) [][]byte { return keep(body) }), true); err != nil {
		t.Errorf("unchanged: %v", err)
	}
}

func TestBackupNeedsARoleThatIsPortable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, err := w.idOf("p")
	must(t, err)
	strip := func(roles ...string) {
		must(t, w.store.Update(func(tx *store.Tx) error {
			record, err := loadPartition(tx, id)
			if err != nil {
				return err
			}
			for _, role := range roles {
				record.Roles[role].Portable = nil
			}
			return save(tx, kindPartition, partitionKey(id), record)
		}))
	}
	strip("cu")
	w.backup()
	strip("co", "cu")
	wantCode(t, w.officer().Backup(t.Context(), new(bytes.Buffer), "p"), object.ErrPINNotInitialized)
}

func TestBackupErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	wantCode(t, w.officer().Backup(t.Context(), new(bytes.Buffer), "nothing"), object.ErrObjectNotFound)
	full := errors.New("no space left on device")
	if err := w.officer().Backup(t.Context(), failingWriter{full}); !errors.Is(err, full) {
		t.Errorf("a full disk: %v", err)
	}
	if last := w.lastRecord(); last.Action != "hsm.backup" || last.Outcome == audit.OK {
		t.Errorf("recorded %+v", last)
	}
	if got := backupOf(slices.Repeat([]string{"a-partition"}, 100)); len(got) > 1000 {
		t.Errorf("%d bytes of detail", len(got))
	}
}

func TestDomainFile(t *testing.T) {
	t.Parallel()
	w, other := newWorld(t), newWorld(t)
	text, err := w.officer().ExportDomain(t.Context(), passphrase)
	must(t, err)
	wantCode(t, other.officer().ImportDomain(t.Context(), text, passphrase), object.ErrExists)
	must(t, other.officer().DeletePartition(t.Context(), "p"))
	wantCode(t, other.officer().ImportDomain(t.Context(), text, []byte("another passphrase")), object.ErrPINIncorrect)
	for name, change := range map[string][]byte{
		"another identity": bytes.Replace(text, []byte("\ndomain "), []byte("\ndomain 0"), 1),
		"another version":  bytes.Replace(text, []byte("version 1"), []byte("version 2"), 1),
		"cut":              text[:len(text)-1],
		"a line more":      append(bytes.Clone(text), '\n'),
		"no text":          nil,
		"long":             append(bytes.Clone(text), make([]byte, maxDomainFile)...),
	} {
		if err := other.officer().ImportDomain(t.Context(), change, passphrase); err == nil {
			t.Errorf("%s: imported", name)
		}
	}
	was, err := other.DomainIdentity()
	must(t, err)
	must(t, other.officer().ImportDomain(t.Context(), text, passphrase))
	is, err := other.DomainIdentity()
	must(t, err)
	want, err := w.DomainIdentity()
	must(t, err)
	if is != want || was == want || !bytes.Contains(text, []byte(want)) {
		t.Errorf("domain %s, was %s, want %s", is, was, want)
	}
	_, err = w.officer().ExportDomain(t.Context(), []byte("short"))
	wantCode(t, err, object.ErrPINLength)
}

// goldenDomain is a domain's file as the first version wrote it.
const goldenDomain = `moongate hsm domain, version 1
domain e839841b4e57bb32f666f34cc85fe410
kdf {"name":"argon2id","salt":"i2JEpNl57cWEpvQD1AZOUQ==","time":1,"memory":8192,"threads":1}
secret 6956f0c37db77f71a565a01284b53246dbab69cc1c840833912f007dc00f37563642e339073def6ad1e46f60c930c126dc09952ac902ea42f0071752
`

func TestGoldenDomainFileOpens(t *testing.T) {
	t.Parallel()
	secret, err := openDomain(mech.Policy{}, []byte(goldenDomain), passphrase)
	if want := bytes.Repeat([]byte{7}, domainSize); err != nil || !bytes.Equal(secret, want) {
		t.Errorf("golden: %v", err)
	}
}

func TestBackupOfManyObjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, err := w.idOf("p")
	must(t, err)
	var r *roleRecord
	must(t, w.store.View(func(tx *store.Tx) (err error) {
		_, r, err = loadRole(tx, id, object.RoleCryptoOfficer)
		return err
	}))
	key, err := w.unseal(id, object.RoleCryptoOfficer, r, coPassword)
	must(t, err)
	const n = 300 // a few chunks
	must(t, w.store.Update(func(tx *store.Tx) error {
		for i := range n {
			o := &object.Object{ID: object.NewID(), Secret: make([]byte, 1200),
				Attributes: object.Defaults(object.ClassSecretKey).With(object.Text(object.AttrLabel, fmt.Sprint(i)))}
			if _, err := tx.PutObject(id, key, o); err != nil {
				return err
			}
		}
		return nil
	}))
	raw := w.backup()
	if len(raw) < 3*chunkSize {
		t.Fatalf("%d bytes", len(raw))
	}
	to := w.newBare()
	done, err := to.restore(raw, false)
	must(t, err)
	if done.Objects != n {
		t.Errorf("restored %+v", done)
	}
	if diff := cmp.Diff(w.changes(), to.changes()); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}
