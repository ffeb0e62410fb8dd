// Package logstore keeps a gateway's logs, to be asked by filter and time:
//
//	DIR/traffic-1.db   what is left of flows: the traffic and decryption logs
//	DIR/system-1.db    events of the gateway itself
//	DIR/config-1.db    what administrators changed, or were refused
//
// Each is an SQLite database with one writer, so that a flood in one log
// neither delays another nor displaces its entries; the number counts up when
// one was found corrupt and put aside. Other processes may read them meanwhile
// ([OpenReader]).
//
// The data plane never waits: Write queues, one goroutine writes in batches. An
// entry is in its database 200 ms after it was given at the latest. A crash of
// the gateway loses what was not there yet; a crash of the machine, of traffic
// and system entries, what SQLite had not synced (synchronous=NORMAL: the
// database is whole, its newest entries may be missing). Configuration entries
// are on the disk before Config returns. Where entries are lost because they
// came too fast or the disk took none, that is counted, and told of in the
// system log.
//
// A store always opens: a database that cannot be is tried again each second,
// and a corrupt one is put aside. A gateway is not to stop for want of its logs.
package logstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"moongate/internal/durable"
	"moongate/internal/gw/flow"
)

// Keep says how long and how much.
type Keep struct {
	// Age is when an entry is deleted; 0 is never.
	Age time.Duration
	// Size is how large a database may be, in bytes; 0 is the default. The
	// oldest entries go. Beside the file there is a write-ahead log of some
	// 16 MiB.
	Size int64
}

// Retention says what is kept of each database.
type Retention struct{ Traffic, System, Config Keep }

// DefaultSize of each database, in bytes: some 700,000 flows, and at least
// 100,000 events and changes of usual size.
var DefaultSize = map[Log]int64{Traffic: 1 << 30, System: 128 << 20, Config: 256 << 20}

// minSize keeps a mistake from deleting everything at once.
const minSize = 1 << 20

// Split makes a Retention of a total size in bytes (0 is the default ones) and an
// age for each log (0 or none is for ever). The decryption log is a view of the
// traffic log's entries: they are kept for the longer of the two ages.
func Split(size int64, ages map[Log]time.Duration) Retention {
	flows := max(ages[Traffic], ages[Decryption])
	if ages[Traffic] == 0 || ages[Decryption] == 0 {
		flows = 0
	}
	return Retention{Traffic: Keep{flows, size / 10 * 7}, System: Keep{ages[System], size / 10}, Config: Keep{ages[Config], size / 5}}
}

// Options say where and how. Dir and Logger are required.
type Options struct {
	Dir       string // made if it is missing
	Logger    *slog.Logger
	Retention Retention
	// Queue is how many entries of a log may wait; 0 is 16,384.
	Queue int
	// Reserve is the free space in bytes below which the databases do not
	// grow, such that there is room for the configuration: new entries replace
	// old ones then. 0 is 64 MiB.
	Reserve int64
	// Hostname is what forwarded messages say they come from; empty is the
	// machine's.
	Hostname   string
	Registerer prometheus.Registerer // nil for none
}

// Store is an open log store. It is safe for concurrent use.
type Store struct {
	*Reader
	traffic, system, config *writer

	forwarding *forwarding
}

// Open opens the logs, or begins them. Its errors are those of wiring.
func Open(o Options) (*Store, error) {
	if o.Logger == nil {
		return nil, errors.New("logstore: no logger")
	}
	if o.Dir == "" {
		return nil, errors.New("logstore: no directory")
	}
	if err := durable.Mkdir(o.Dir); err != nil {
		o.Logger.Error("making the directory of the logs", "cause", err)
	}
	if o.Queue <= 0 {
		o.Queue = 16_384
	}
	if o.Reserve <= 0 {
		o.Reserve = 64 << 20
	}
	s := &Store{}
	forwarding, err := newForwarding(o.Hostname, o.Logger, s.System)
	if err != nil {
		return nil, err
	}
	s.forwarding = forwarding
	writer := func(name string, log Log, encode func(any, time.Time) ([]any, []byte, error)) *writer {
		return &writer{
			family: family{dir: o.Dir, name: name, log: log}, logger: o.Logger, sync: log == Config, encode: encode, reserve: o.Reserve,
			wrote: func(rows []row) { forwarding.offer(log, rows) }, tell: s.System,
			queue: make(chan item, o.Queue), suspect: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{}),
		}
	}
	s.traffic = writer("traffic", Traffic, encodeFlow)
	s.system = writer("system", System, func(what any, now time.Time) ([]any, []byte, error) {
		return eventValues(what.(*Event), now), nil, nil
	})
	s.config = writer("config", Config, func(what any, now time.Time) ([]any, []byte, error) {
		return changeValues(what.(*Change), now), nil, nil
	})
	s.SetRetention(o.Retention)
	s.Reader = newReader(o.Dir, s.found)
	if o.Registerer != nil {
		if err := o.Registerer.Register(figures{s}); err != nil {
			return nil, fmt.Errorf("registering the figures of the logs: %w", err)
		}
	}
	for _, w := range s.writers() {
		w.start()
	}
	return s, nil
}

func (s *Store) writers() []*writer { return []*writer{s.traffic, s.system, s.config} }

// Close writes what is queued and closes the databases. Nobody may be writing
// any more; what comes later is lost. Syslog messages that wait get a second.
func (s *Store) Close() error {
	var errs []error
	for _, w := range []*writer{s.traffic, s.config, s.system} { // the others tell the system log
		errs = append(errs, w.close())
	}
	errs = append(errs, s.forwarding.close(), s.Reader.Close())
	return errors.Join(errs...)
}

// Write queues the record of a flow, which must not be changed afterwards. It
// never waits: where the queue is full, or the store closed, the record is
// lost and counted. Store is a flow.Sink.
func (s *Store) Write(r *flow.Record) { s.traffic.put(item{what: r}) }

// System queues an event; it never waits, as Write.
func (s *Store) System(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	s.system.put(item{what: &e})
}

// Config writes changes, in their order. They are on the disk when Config
// returns nil; it waits for that 15 seconds at most while nothing is written.
func (s *Store) Config(changes ...Change) error {
	entries := make([]any, len(changes))
	for i := range changes {
		c := changes[i]
		if c.Time.IsZero() {
			c.Time = time.Now()
		}
		entries[i] = &c
	}
	return s.config.durable(entries...)
}

// SetRetention changes what is kept; where that is less, the rest goes in small
// steps.
func (s *Store) SetRetention(r Retention) {
	for _, set := range []struct {
		w    *writer
		keep Keep
	}{{s.traffic, r.Traffic}, {s.system, r.System}, {s.config, r.Config}} {
		if set.keep.Size <= 0 {
			set.keep.Size = DefaultSize[set.w.log]
		}
		set.keep.Size = max(set.keep.Size, minSize)
		set.w.keep.Store(&set.keep)
	}
}

// Lost is the number of entries that were not written since Open.
func (s *Store) Lost() uint64 {
	return s.traffic.lost.Load() + s.system.lost.Load() + s.config.lost.Load()
}

// Status is how a database is.
type Status struct {
	Log     Log // Traffic stands for Decryption too
	File    string
	Bytes   int64  // of the file
	Waiting int    // entries in the queue
	Written uint64 // since Open, like the two below
	Deleted uint64
	Lost    uint64
	Failure string // why nothing can be written now; empty if it can
}

// Status tells how the databases are.
func (s *Store) Status() []Status {
	var list []Status
	for _, w := range s.writers() {
		st := Status{Log: w.log, Bytes: w.bytes.Load(), Waiting: len(w.queue), Written: w.stored.Load(), Deleted: w.deleted.Load(), Lost: w.lost.Load()}
		if n, err := w.newest(); err == nil && n > 0 {
			st.File = filepath.Clean(w.path(n))
		}
		if cause := w.failure.Load(); cause != nil {
			st.Failure = *cause
		}
		list = append(list, st)
	}
	return list
}

// found has a database examined that a reader found corrupt.
func (s *Store) found(log Log) {
	w := s.traffic
	switch log {
	case System:
		w = s.system
	case Config:
		w = s.config
	}
	select {
	case w.suspect <- struct{}{}:
	default: // it will be already
	}
}

// maxRecord bounds the JSON of a flow. Only names in certificates make it
// long; they are cut then.
const maxRecord = 32 << 10

func encodeFlow(what any, now time.Time) ([]any, []byte, error) {
	r := what.(*flow.Record)
	record, err := encodeRecord(r)
	if err == nil && len(record) > maxRecord {
		record, err = encodeRecord(shortened(r))
	}
	return flowValues(r, now), record, err
}

func encodeRecord(r *flow.Record) ([]byte, error) { return json.Marshal(r) }

// shortened is a copy of a record with its texts cut.
func shortened(r *flow.Record) *flow.Record {
	c := *r
	cut := func(texts ...*string) {
		for _, s := range texts {
			*s = clean(*s, maxFlowText)
		}
	}
	cut(&c.Target, &c.SNI, &c.Rule, &c.Reason, &c.VerdictDetail, &c.FailureCause)
	for _, leg := range []**flow.Leg{&c.ClientLeg, &c.ServerLeg} {
		if *leg == nil || (*leg).Certificate == nil {
			continue
		}
		l, certificate := **leg, *(*leg).Certificate
		cut(&certificate.Subject, &certificate.Issuer, &certificate.Serial)
		l.Certificate = &certificate
		*leg = &l
	}
	return &c
}
