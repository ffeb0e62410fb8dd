package partition

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
)

// sealedChunks returns size random bytes and the chunks that they are sealed in.
func sealedChunks(t *testing.T, key *[32]byte, size int) ([]byte, [][]byte) {
	t.Helper()
	payload := make([]byte, size)
	rand.Read(payload)
	var out bytes.Buffer
	w := &chunkWriter{w: &out, key: key}
	for rest := payload; len(rest) > 0; { // in pieces of any size
		n := min(len(rest), 1+len(rest)/3)
		if _, err := w.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("wrote behind the end")
	}
	return payload, slices.Collect(slices.Chunk(out.Bytes(), chunkSize+chunkOverhead))
}

func TestChunksOfAnySize(t *testing.T) {
	t.Parallel()
	key := &[32]byte{1}
	for _, size := range []int{0, 1, chunkSize - 1, chunkSize, chunkSize + 1, 2 * chunkSize, 3*chunkSize + 7} {
		payload, chunks := sealedChunks(t, key, size)
		if want := max(1, (size+chunkSize-1)/chunkSize); len(chunks) != want {
			t.Errorf("%d bytes are %d chunks, want %d", size, len(chunks), want)
		}
		got, err := io.ReadAll(&chunkReader{r: bytes.NewReader(bytes.Join(chunks, nil)), key: key})
		if err != nil || !bytes.Equal(got, payload) {
			t.Errorf("%d bytes: %d came, %v", size, len(got), err)
		}
	}
}

func TestChunksRefuseWhatWasDoneToThem(t *testing.T) {
	t.Parallel()
	key := &[32]byte{1}
	_, c := sealedChunks(t, key, 3*chunkSize+7)
	_, exact := sealedChunks(t, key, 2*chunkSize)
	flipped := bytes.Clone(c[1])
	flipped[100] ^= 1
	for name, test := range map[string]struct {
		chunks [][]byte
		says   string
	}{
		"nothing":            {nil, "cut off"},
		"the last is gone":   {c[:3], "cut off after chunk 3"},
		"the last is cut":    {[][]byte{c[0], c[1], c[2], c[3][:len(c[3])-1]}, "chunk 3 does not open"},
		"one is cut":         {[][]byte{c[0], c[1][:chunkSize]}, "chunk 1 does not open"},
		"less than a seal":   {[][]byte{c[0][:20]}, "chunk 0 does not open"},
		"one is gone":        {[][]byte{c[0], c[2], c[3]}, "chunk 1 does not open"},
		"the first is gone":  {c[1:], "chunk 0 does not open"},
		"two are swapped":    {[][]byte{c[1], c[0], c[2], c[3]}, "chunk 0 does not open"},
		"one is twice":       {[][]byte{c[0], c[0], c[1], c[2], c[3]}, "chunk 1 does not open"},
		"one is changed":     {[][]byte{c[0], flipped, c[2], c[3]}, "chunk 1 does not open"},
		"a byte more":        {append(slices.Clone(c), []byte{0}), "chunk 3 does not open"},
		"twice":              {append(slices.Clone(c), c...), "chunk 3 does not open"},
		"exact, a byte more": {append(slices.Clone(exact), []byte{0}), "something follows"},
		"exact, twice":       {append(slices.Clone(exact), exact...), "something follows"},
		"exact, cut":         {exact[:1], "cut off after chunk 1"},
	} {
		r := &chunkReader{r: bytes.NewReader(bytes.Join(test.chunks, nil)), key: key}
		for range 2 { // and it stays broken
			_, err := io.ReadAll(r)
			if err == nil || !strings.Contains(err.Error(), test.says) || object.CodeOf(err) != object.ErrDataInvalid {
				t.Errorf("%s: %v, want %q", name, err, test.says)
			}
		}
	}
	broken := errors.New("broken pipe")
	if _, err := io.ReadAll(&chunkReader{r: io.MultiReader(bytes.NewReader(c[0]), failingReader{broken}), key: key}); !errors.Is(err, broken) {
		t.Errorf("an error below: %v", err)
	}
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

type failingWriter struct{ err error }

func (f failingWriter) Write([]byte) (int, error) { return 0, f.err }

func TestChunkWriterStaysBroken(t *testing.T) {
	t.Parallel()
	full := errors.New("no space left")
	w := &chunkWriter{w: failingWriter{full}, key: &[32]byte{}}
	if _, err := w.Write(make([]byte, chunkSize+1)); !errors.Is(err, full) {
		t.Errorf("Write: %v", err)
	}
	if err := w.Close(); !errors.Is(err, full) {
		t.Errorf("Close: %v", err)
	}
}

// FuzzBackup gives the reader what an attacker with the domain secret could
// write: it must refuse it or end, in bounded memory, and never panic.
func FuzzBackup(f *testing.F) {
	secret := bytes.Repeat([]byte{7}, domainSize)
	identity, err := domainIdentity(secret)
	if err != nil {
		f.Fatal(err)
	}
	header := BackupHeader{Domain: identity, Serial: "1", Label: "lab", Whole: true}
	write := func(payload []byte) []byte {
		var out bytes.Buffer
		w, err := newBackupWriter(&out, secret, header)
		if err == nil {
			_, err = w.chunks.Write(payload)
		}
		if err == nil {
			err = w.chunks.Close()
		}
		if err != nil {
			f.Fatal(err)
		}
		return out.Bytes()
	}
	record := func(kind byte, body string) string {
		return fmt.Sprintf("%c\x00\x00%c%c%s", kind, len(body)>>8, len(body), body)
	}
	manifest := record(recordManifest, `{"store":"00000000-0000-0000-0000-000000000000","fips":false,"address_check":true,"clients":1}`)
	f.Add([]byte(manifest + record(recordEnd, "")))
	f.Add([]byte(manifest + record(recordPartition, `{"record":{"id":"11111111-1111-4111-8111-111111111111","label":"p","serial":"1"},"members":1}`) + record(recordObject, strings.Repeat("o", 60))))
	f.Add([]byte(manifest + record(recordClient, `{"name":"c"}`) + record(recordEnd, "")))
	f.Add([]byte{recordManifest, 0xff, 0xff, 0xff, 0xff})
	h := &HSM{maxObjects: 3}
	f.Fuzz(func(t *testing.T, in []byte) {
		if _, err := h.plan(bytes.NewReader(write(in)), io.Discard, secret); err == nil {
			t.Logf("accepted %q", in)
		}
		// As it is, it is no backup, or at least not of this domain.
		if _, err := h.plan(bytes.NewReader(in), io.Discard, secret); err == nil {
			t.Errorf("accepted unsealed bytes %q", in)
		}
		if header, raw, _, err := readBackupHeader(bytes.NewReader(in)); err == nil {
			t.Logf("header %+v of %q", header, raw)
		}
	})
}

func FuzzDomainFile(f *testing.F) {
	text, err := sealDomain(bytes.Repeat([]byte{7}, domainSize), quickKDF(mech.Policy{}), []byte("a passphrase"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(domainLine))
	f.Fuzz(func(t *testing.T, in []byte) {
		d, err := decodeDomain(in)
		if err != nil {
			return
		}
		if again := fmt.Appendf(bytes.Clone(d.head), "secret %x\n", d.sealed); !bytes.Equal(in, again) {
			t.Errorf("%q decodes to what encodes to %q", in, again)
		}
	})
}
