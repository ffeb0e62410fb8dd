// Package handover is what moongate-p11 and its supervisor tell each other: one
// JSON object on the helper's standard input when it starts, and one a line on
// its standard output while it runs. What is secret goes this way alone: it is
// in no argument, no environment and no file.
package handover

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Start is the first line that the helper reads. The end of its input is the
// end of its supervisor, and its own.
type Start struct {
	PIN []byte `json:"pin"`
	// Certificate and Key are those of the helper's side, PEM; Client is the
	// certificate of the other side's, DER.
	Certificate []byte `json:"certificate"`
	Key         []byte `json:"key"`
	Client      []byte `json:"client"`
}

// Event is a line of the helper's.
type Event struct {
	Kind Kind `json:"event"`
	// Of Ready: what is served.
	Module string `json:"module,omitempty"`
	Token  string `json:"token,omitempty"`
	Serial string `json:"serial,omitempty"`
	// Of Beat: Away says that the token is away, and Cause why.
	Away bool `json:"away,omitempty"`
	// Of End: why the process ends.
	Reason Reason `json:"reason,omitempty"`
	Cause  string `json:"cause,omitempty"`
}

// Kind is an event's kind.
type Kind string

const (
	Ready Kind = "ready" // the socket is open
	Beat  Kind = "beat"  // the process is alive; each Interval
	End   Kind = "end"   // the process ends
)

// Interval is the time between two beats.
const Interval = 500 * time.Millisecond

// Reason is why the helper ended, as far as its supervisor acts on it; also its
// exit status.
type Reason string

const (
	Failed     Reason = "failed"     // anything else
	NoModule   Reason = "no-module"  // the module cannot be loaded
	NoToken    Reason = "no-token"   // the module sees no such token
	PINWrong   Reason = "pin"        // the token refused the PIN: not to be tried again
	ModuleHung Reason = "hung"       // a call of the module's did not come back
	TokenLost  Reason = "token-lost" // the token went away and did not come back
)

// Status is the exit status for a reason.
func (r Reason) Status() int {
	for i, known := range []Reason{Failed, "", NoModule, NoToken, PINWrong, ModuleHung, TokenLost} {
		if r == known && r != "" {
			return i + 1
		}
	}
	return 1
}

// maxLine bounds a line in bytes.
const maxLine = 64 << 10

// ErrNoStart is the error of an input that ends before its first line.
var ErrNoStart = errors.New("the supervisor said nothing")

// ReadStart reads the first line. The buffered reader holds what follows.
func ReadStart(r *bufio.Reader) (Start, error) {
	line, err := readLine(r)
	defer clear(line)
	if err == io.EOF {
		return Start{}, ErrNoStart
	} else if err != nil {
		return Start{}, fmt.Errorf("reading what the supervisor hands over: %w", err)
	}
	var s Start
	// The decoder's errors could quote what it read, which is secret.
	if err := strictly(line, &s); err != nil {
		return Start{}, errors.New("reading what the supervisor hands over: it is not the JSON object that was expected; bring moongate and moongate-p11 to the same version")
	}
	return s, nil
}

// WriteStart writes the first line, and wipes its copy.
func WriteStart(w io.Writer, s Start) error {
	line, err := json.Marshal(s)
	if err != nil {
		return err
	}
	defer clear(line)
	// JSON has no newline of its own: the append may copy, and both are wiped.
	line = append(line, '\n')
	defer clear(line)
	_, err = w.Write(line)
	return err
}

// ReadEvent reads a line of the helper's; io.EOF at its end.
func ReadEvent(r *bufio.Reader) (Event, error) {
	line, err := readLine(r)
	if err != nil {
		return Event{}, err
	}
	var e Event
	if err := strictly(line, &e); err != nil {
		return Event{}, fmt.Errorf("reading what moongate-p11 says: %w", err)
	}
	return e, nil
}

// WriteEvent writes a line, in one write.
func WriteEvent(w io.Writer, e Event) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > maxLine {
			clear(line)
			return nil, fmt.Errorf("a line of more than %d bytes", maxLine)
		}
		grown := append(line, part...)
		if cap(grown) != cap(line) {
			clear(line)
		}
		line = grown
		if err == nil {
			return line, nil
		}
		if err != bufio.ErrBufferFull {
			if err == io.EOF && len(line) > 0 {
				err = io.ErrUnexpectedEOF
			}
			clear(line)
			return nil, err
		}
	}
}

// strictly decodes one JSON object, which has no fields that are not known.
func strictly(line []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return err
	}
	if d.More() {
		return errors.New("something follows the object")
	}
	return nil
}
