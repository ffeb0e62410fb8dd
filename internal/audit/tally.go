package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
)

// A tally counts key uses without a record, by action. The zero value is
// empty. It is a value: copies are independent.
type tally struct {
	from, to time.Time
	kinds    [maxTallied]struct {
		action string
		count  int64
	}
	others int64 // of actions beyond maxTallied
}

// maxTallied bounds the actions that are told apart; the HSM has fewer.
const maxTallied = 12

func (t *tally) empty() bool { return t.from.IsZero() }

func (t *tally) total() int64 {
	n := t.others
	for _, k := range t.kinds {
		n += k.count
	}
	return n
}

func (t *tally) count(action string, now time.Time) {
	now = now.UTC().Truncate(time.Second)
	if t.from.IsZero() || now.Before(t.from) {
		t.from = now
	}
	if now.After(t.to) {
		t.to = now
	}
	t.several(action, 1)
}

func (t *tally) several(action string, n int64) {
	for i := range t.kinds {
		k := &t.kinds[i]
		if k.count == 0 {
			k.action = action
		}
		if k.action == action {
			k.count += n
			return
		}
	}
	t.others += n
}

// add adds what u counted.
func (t *tally) add(u tally) {
	if u.empty() {
		return
	}
	if t.empty() || u.from.Before(t.from) {
		t.from = u.from
	}
	if u.to.After(t.to) {
		t.to = u.to
	}
	for _, k := range u.kinds {
		if k.count > 0 {
			t.several(k.action, k.count)
		}
	}
	t.others += u.others
}

// event is the record of the count.
func (t *tally) event() Event {
	var b strings.Builder
	fmt.Fprintf(&b, "%d key uses without a record from %s to %s:", t.total(), t.from.Format(time.RFC3339), t.to.Format(time.RFC3339))
	for _, k := range t.kinds {
		if k.count > 0 {
			fmt.Fprintf(&b, " %s=%d", k.action, k.count)
		}
	}
	if t.others > 0 {
		fmt.Fprintf(&b, " others=%d", t.others)
	}
	return Event{Kind: Admin, Action: actionUncounted, Outcome: OK, Detail: b.String()}
}

const (
	tallyHeader = "moongate-audit-uncounted/1"
	tallySize   = 2048
)

// encode is the file: a header; if anything was counted, the lines from, to
// and one for each action; and spaces up to tallySize, so that it can be
// written where it is. Actions are the program's, printable and short.
func (t *tally) encode() []byte {
	b := []byte(tallyHeader + "\n")
	if !t.empty() {
		b = fmt.Appendf(b, "from %s\nto %s\n", t.from.Format(time.RFC3339), t.to.Format(time.RFC3339))
	}
	for _, k := range t.kinds {
		if k.count > 0 {
			b = fmt.Appendf(b, "use %s %d\n", strconv.QuoteToASCII(k.action[:min(len(k.action), maxAction)]), k.count)
		}
	}
	if t.others > 0 {
		b = fmt.Appendf(b, "others %d\n", t.others)
	}
	return append(b, bytes.Repeat([]byte(" "), max(tallySize-len(b), 0))...)[:tallySize]
}

var errTally = errors.New("malformed count of key uses")

// parseTally accepts exactly what encode writes.
func parseTally(data []byte) (tally, error) {
	var t tally
	if len(data) != tallySize {
		return t, errTally
	}
	text, found := strings.CutPrefix(strings.TrimRight(string(data), " "), tallyHeader+"\n")
	if !found {
		return t, errTally
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		word, rest, _ := strings.Cut(line, " ")
		var err error
		switch word {
		case "from":
			t.from, err = time.Parse(time.RFC3339, rest)
		case "to":
			t.to, err = time.Parse(time.RFC3339, rest)
		case "use":
			err = t.parseUse(rest)
		case "others":
			t.others, err = strconv.ParseInt(rest, 10, 64)
		default:
			err = errTally
		}
		if err != nil {
			return tally{}, errTally
		}
	}
	if !bytes.Equal(t.encode(), data) {
		return tally{}, errTally
	}
	return t, nil
}

func (t *tally) parseUse(rest string) error {
	space := strings.LastIndexByte(rest, ' ')
	if space < 0 {
		return errTally
	}
	action, err := strconv.Unquote(rest[:space])
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(rest[space+1:], 10, 64)
	if err != nil || n <= 0 {
		return errTally
	}
	t.several(action, n)
	return nil
}

// A tallyFile keeps a tally on disk. It is always of the same size, and
// written where it is: that takes no new room, on a file system that does not
// copy on writing.
type tallyFile struct {
	path string
	disk disk
}

// create makes the file if it is not there.
func (f tallyFile) create() error {
	if _, err := os.Stat(f.path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return f.rebuild()
}

// rebuild makes the file anew, with nothing counted.
func (f tallyFile) rebuild() error {
	if err := f.disk.writeFile(f.path, new(tally).encode(), 0o600); err != nil {
		return fmt.Errorf("making room for a count of key uses: %w", err)
	}
	return nil
}

func (f tallyFile) save(t *tally) error {
	file, err := f.disk.openInPlace(f.path)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(t.encode(), 0)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// reset says that the count is on record.
func (f tallyFile) reset() error {
	err := f.save(&tally{})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// read is the count in the file; an error if it cannot be told.
func (f tallyFile) read() (tally, error) {
	data, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return tally{}, nil
	} else if err != nil {
		return tally{}, fmt.Errorf("reading count of key uses: %w", err)
	}
	return parseTally(data)
}
