package partition

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// A backup is: a line that names the format, the header's length (uint32), the
// header (JSON), its HMAC-SHA256 (32 bytes), and the payload in chunks. Both
// keys are derived from the domain secret with the SHA-256 of the header as
// salt, so that they are this file's alone: the header holds a random number.
//
// The payload is a sequence of records: kind (1 byte), length (uint32), body.
// First the manifest, then each partition with its objects behind it, then the
// clients, then the end. docs/backup.md describes all of it.
const (
	backupLine   = "moongate hsm backup, version 1\n"
	backupPrefix = "moongate hsm backup, version "

	maxBackupHeader = 4 << 10
	maxBackupRecord = max(store.MaxRawObject, store.MaxRecordValue)

	recordManifest  = 1 // backupManifest
	recordPartition = 2 // partitionBackup
	recordObject    = 3 // store.RawObject
	recordClient    = 4 // clientRecord
	recordEnd       = 5 // empty
)

// BackupHeader is what a backup shows to everybody. Names of partitions and
// clients are not in it.
type BackupHeader struct {
	Domain  string    `json:"domain"` // whose HSMs can open it, see DomainIdentity
	Serial  string    `json:"serial"` // of the HSM that made it
	Label   string    `json:"label"`  // of the same
	Created time.Time `json:"created"`
	// Whole: it is of the whole HSM, with its clients.
	Whole      bool `json:"whole"`
	Partitions int  `json:"partitions"`
	// Salt is 16 random bytes.
	Salt []byte `json:"salt"`
}

// backupManifest is what of the HSM itself is in a backup.
type backupManifest struct {
	Store        object.ID `json:"store"` // whose root key the roles' own seals need
	FIPS         bool      `json:"fips"`
	AddressCheck bool      `json:"address_check"`
	Clients      int       `json:"clients"`
}

// partitionBackup is what of a partition is in a backup, but for its objects.
type partitionBackup struct {
	Record     partitionRecord `json:"record"`
	Origin     object.ID       `json:"origin"`
	Sequence   uint64          `json:"sequence"`
	LastHandle uint64          `json:"last_handle"`
	Members    uint64          `json:"members"`
	// Uses are the counters of keys' uses, by shard.
	Uses [shards][]byte `json:"uses"`
}

func (p *partitionBackup) raw() store.RawPartition {
	return store.RawPartition{ID: p.Record.ID, Origin: p.Origin, Sequence: p.Sequence, LastHandle: p.LastHandle, Members: p.Members}
}

// refuseBackup is the refusal of a backup that is not as it was made.
func refuseBackup(format string, args ...any) error {
	return object.Errorf(object.ErrDataInvalid, "the backup is refused: "+format, args...)
}

// backupKeys derives the two keys of one backup.
func backupKeys(secret, header []byte) (mac, payload *[32]byte, err error) {
	salt := sha256.Sum256(header)
	if mac, err = domainKey(secret, salt[:], "backup header"); err == nil {
		payload, err = domainKey(secret, salt[:], "backup payload")
	}
	return mac, payload, err
}

func headerMAC(key *[32]byte, header []byte) []byte {
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte(backupLine))
	mac.Write(header)
	return mac.Sum(nil)
}

// backupWriter writes a backup's records.
type backupWriter struct {
	chunks *chunkWriter
}

// newBackupWriter writes the header; its salt is made here.
func newBackupWriter(w io.Writer, secret []byte, header BackupHeader) (*backupWriter, error) {
	header.Salt = make([]byte, 16)
	rand.Read(header.Salt) // never fails: the program ends instead
	raw, err := json.Marshal(header)
	if err != nil {
		return nil, fmt.Errorf("encoding the backup's header: %w", err)
	}
	mac, payload, err := backupKeys(secret, raw)
	if err != nil {
		return nil, err
	}
	b := binary.BigEndian.AppendUint32([]byte(backupLine), uint32(len(raw)))
	b = append(append(b, raw...), headerMAC(mac, raw)...)
	if _, err := w.Write(b); err != nil {
		return nil, fmt.Errorf("writing the backup's header: %w", err)
	}
	return &backupWriter{&chunkWriter{w: w, key: payload, buf: make([]byte, 0, chunkSize)}}, nil
}

func (b *backupWriter) record(kind byte, body []byte) error {
	if len(body) > maxBackupRecord {
		return fmt.Errorf("writing the backup: a record has %d bytes, at most %d", len(body), maxBackupRecord)
	}
	head := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)))
	for _, p := range [][]byte{head, body} {
		if _, err := b.chunks.Write(p); err != nil {
			return fmt.Errorf("writing the backup: %w", err)
		}
	}
	return nil
}

func (b *backupWriter) recordJSON(kind byte, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding the backup: %w", err)
	}
	return b.record(kind, body)
}

// end writes the last record.
func (b *backupWriter) end() error {
	if err := b.record(recordEnd, nil); err != nil {
		return err
	}
	if err := b.chunks.Close(); err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	return nil
}

// ReadBackupHeader reads what a backup shows to everybody. It is not proved:
// only an HSM of the domain can do that.
func ReadBackupHeader(r io.Reader) (BackupHeader, error) {
	header, _, _, err := readBackupHeader(r)
	return header, err
}

// readBackupHeader also returns the header's bytes and its MAC, not yet checked.
func readBackupHeader(r io.Reader) (header BackupHeader, raw, mac []byte, err error) {
	line := make([]byte, len(backupLine)+4)
	if _, err := io.ReadFull(r, line); err != nil {
		return BackupHeader{}, nil, nil, backupTooShort(err)
	}
	if found := line[:len(backupLine)]; string(found) != backupLine {
		if bytes.HasPrefix(found, []byte(backupPrefix)) {
			return BackupHeader{}, nil, nil, refuseBackup("it is of a version that is not known; restore it with the version that made it, or a newer one")
		}
		return BackupHeader{}, nil, nil, refuseBackup("it is no backup of an HSM")
	}
	size := binary.BigEndian.Uint32(line[len(backupLine):])
	if size > maxBackupHeader {
		return BackupHeader{}, nil, nil, refuseBackup("its header has %d bytes, at most %d", size, maxBackupHeader)
	}
	rest := make([]byte, int(size)+sha256.Size)
	if _, err := io.ReadFull(r, rest); err != nil {
		return BackupHeader{}, nil, nil, backupTooShort(err)
	}
	raw, mac = rest[:size:size], rest[size:]
	if err := decodeStrict(raw, &header); err != nil {
		return BackupHeader{}, nil, nil, refuseBackup("its header is malformed")
	}
	// There is one encoding.
	if again, err := json.Marshal(header); err != nil || !bytes.Equal(again, raw) {
		return BackupHeader{}, nil, nil, refuseBackup("its header is malformed")
	}
	return header, raw, mac, nil
}

func backupTooShort(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return refuseBackup("it is cut off in its header")
	}
	return fmt.Errorf("reading the backup: %w", err)
}

// decodeStrict decodes one JSON value and refuses fields that are not known
// and anything behind it.
func decodeStrict(raw []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the value")
	}
	return nil
}

// backupReader reads a backup's records, in their order.
type backupReader struct {
	header BackupHeader
	chunks *chunkReader
	at     int64 // in the payload, of the next record
	buf    []byte
}

// newBackupReader reads the header and checks that the backup is of the
// domain and that the header was not changed.
func newBackupReader(r io.Reader, secret []byte) (*backupReader, error) {
	header, raw, mac, err := readBackupHeader(r)
	if err != nil {
		return nil, err
	}
	own, err := domainIdentity(secret)
	if err != nil {
		return nil, err
	}
	if header.Domain != own {
		return nil, refuseBackup("it is of domain %q, and this HSM is of domain %s; only an HSM of its domain can open it", header.Domain, own)
	}
	key, payload, err := backupKeys(secret, raw)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(headerMAC(key, raw), mac) {
		return nil, refuseBackup("its header was changed")
	}
	return &backupReader{header: header, chunks: &chunkReader{r: r, key: payload}}, nil
}

// next returns the next record; its body is valid until the next call.
func (b *backupReader) next() (kind byte, body []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(b.chunks, head[:]); err != nil {
		return 0, nil, backupEnds(err)
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size > maxBackupRecord {
		return 0, nil, refuseBackup("a record has %d bytes, at most %d", size, maxBackupRecord)
	}
	if uint32(cap(b.buf)) < size {
		b.buf = make([]byte, size)
	}
	body = b.buf[:size]
	if _, err := io.ReadFull(b.chunks, body); err != nil {
		return 0, nil, backupEnds(err)
	}
	b.at += int64(len(head)) + int64(size)
	return head[0], body, nil
}

// backupEnds is the error of a record that the payload ends in.
func backupEnds(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return refuseBackup("a record is missing at its end")
	}
	return err
}

// finish checks that nothing follows the end record.
func (b *backupReader) finish() error {
	var one [1]byte
	if n, err := io.ReadFull(b.chunks, one[:]); n > 0 {
		return refuseBackup("something follows its end record")
	} else if err != io.EOF {
		return err
	}
	return nil
}
