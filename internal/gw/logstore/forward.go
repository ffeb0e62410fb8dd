package logstore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"moongate/internal/syslog"
)

// Server is a syslog server.
type Server struct {
	Name      string // of the configuration; unique
	Address   string // host:port
	Transport syslog.Transport
	Facility  int // RFC 5424, section 6.2.1; 0 is "user"
	// Of TLS only. Roots are those that the server's certificate must lead
	// to, nil the machine's; ServerName is in it, the address's host by
	// default; Certificate is ours for the server, nil for none.
	ServerName  string
	Roots       *x509.CertPool
	Certificate *tls.Certificate
}

func (s *Server) equal(o *Server) bool {
	if s.Name != o.Name || s.Address != o.Address || s.Transport != o.Transport || s.Facility != o.Facility || s.ServerName != o.ServerName {
		return false
	}
	return (s.Roots == nil) == (o.Roots == nil) && (s.Roots == nil || s.Roots.Equal(o.Roots)) && s.Certificate == o.Certificate
}

// Forward is one rule: the entries of a log that a filter chooses go to servers.
type Forward struct {
	Name    string // for errors
	Log     Log
	Filter  string // empty chooses all
	Servers []string
}

const facilityUser = 1

// rule is a Forward ready for use.
type rule struct {
	log    Log
	filter *Filter
	to     []*forwarder
}

// forwarding sends entries to syslog servers. Writers offer what they received;
// each server has a goroutine that sends.
type forwarding struct {
	hostname string
	most     int // messages that wait for a server
	logger   *slog.Logger
	tell     func(Event)
	stop     context.CancelFunc
	watched  sync.WaitGroup

	change sync.Mutex // one change at a time

	mu      sync.RWMutex // guards the fields below
	servers map[string]*forwarder
	rules   []rule
}

func newForwarding(hostname string, logger *slog.Logger, tell func(Event)) (*forwarding, error) {
	ctx, stop := context.WithCancel(context.Background())
	f := &forwarding{hostname: hostname, most: maxWaiting, logger: logger, tell: tell, stop: stop, servers: map[string]*forwarder{}}
	f.watched.Go(func() { f.watch(ctx) })
	return f, nil
}

// SetForwarding replaces servers and rules. It fails, and changes nothing, where
// one of them cannot be. Servers that stay as they are keep their connection and
// what waits for them.
func (s *Store) SetForwarding(servers []Server, rules []Forward) error {
	return s.forwarding.set(servers, rules)
}

func (f *forwarding) set(servers []Server, forwards []Forward) error {
	f.change.Lock()
	defer f.change.Unlock()
	f.mu.RLock()
	before := f.servers
	f.mu.RUnlock()
	after, fresh := map[string]*forwarder{}, []*forwarder{}
	err := func() error {
		for _, server := range servers {
			if after[server.Name] != nil {
				return fmt.Errorf("syslog server %q: there are two of that name", server.Name)
			}
			if old := before[server.Name]; old != nil && old.server.equal(&server) {
				after[server.Name] = old
				continue
			}
			made, err := newForwarder(server, f.hostname, f.most, f.logger)
			if err != nil {
				return fmt.Errorf("syslog server %q: %w", server.Name, err)
			}
			after[server.Name] = made
			fresh = append(fresh, made)
		}
		return nil
	}()
	var rules []rule
	if err == nil {
		rules, err = compileRules(forwards, after)
	}
	if err != nil {
		return err
	}
	for _, made := range fresh {
		made.start()
	}
	f.mu.Lock()
	f.servers, f.rules = after, rules
	f.mu.Unlock()
	for name, old := range before {
		if after[name] != old {
			old.close(closePatience)
		}
	}
	return nil
}

func compileRules(forwards []Forward, servers map[string]*forwarder) ([]rule, error) {
	var rules []rule
	for _, fw := range forwards {
		if _, err := ParseLog(string(fw.Log)); err != nil {
			return nil, fmt.Errorf("log forwarding %q: %w", fw.Name, err)
		}
		filter, err := ParseFilter(fw.Log, fw.Filter)
		if err != nil {
			return nil, fmt.Errorf("log forwarding %q: %w", fw.Name, err)
		}
		r := rule{log: fw.Log, filter: filter}
		for _, name := range fw.Servers {
			server := servers[name]
			if server == nil {
				return nil, fmt.Errorf("log forwarding %q: there is no syslog server %q", fw.Name, name)
			}
			r.to = append(r.to, server)
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// offer takes what a writer received. It does not wait.
func (f *forwarding) offer(log Log, rows []row) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if len(f.rules) == 0 {
		return
	}
	now := time.Now()
	for _, row := range rows {
		if log != Traffic {
			f.match(log, row, now)
			continue
		}
		f.match(Traffic, row, now)
		if last := len(row.values) - 1; row.values[last] == yes(true) {
			f.match(Decryption, row, now)
		}
	}
}

// match sends an entry to the servers of all rules that choose it, to each once.
// The caller holds mu.
func (f *forwarding) match(log Log, row row, now time.Time) {
	var message *syslog.Message
	var sent []*forwarder
	for _, r := range f.rules {
		if r.log != log || r.filter.root != nil && !r.filter.root.match(row.seq, row.values, fieldsOf(log), now) {
			continue
		}
	servers:
		for _, to := range r.to {
			for _, already := range sent {
				if already == to {
					continue servers
				}
			}
			if message == nil {
				message = messageOf(show(log, row.seq, row.values, row.record))
			}
			to.put(*message)
			sent = append(sent, to)
		}
	}
}

// messageOf is an entry as a syslog message. 32473 is the number for
// documentation (RFC 5612): we have none of our own.
func messageOf(e Entry) *syslog.Message {
	m := &syslog.Message{Severity: syslog.Info, Time: e.Time, ID: strings.ToUpper(string(e.Log)), Text: string(e.AppendJSON(nil))}
	element := syslog.Element{ID: string(e.Log) + "@32473"}
	for _, f := range e.Fields {
		if f.Value != "" {
			element.Params = append(element.Params, syslog.Param{Name: f.Name, Value: f.Value})
		}
	}
	m.Data = []syslog.Element{element}
	switch e.Log {
	case Config:
		m.Severity = syslog.Notice
	case System:
		if level, err := ParseSeverity(e.Get("severity")); err == nil {
			m.Severity = map[Severity]int{Informational: syslog.Info, Low: syslog.Notice, Medium: syslog.Warning, High: syslog.Error, Critical: syslog.Critical}[level]
		}
	default:
		if e.Get("err_index") != "" {
			m.Severity = syslog.Warning
		}
	}
	return m
}

// ForwardStatus is how a syslog server is served.
type ForwardStatus struct {
	Server    string
	Connected bool
	Since     time.Time // of the connection, or of its loss
	Sent      int64     // messages, repetitions included
	Waiting   int
	Dropped   uint64
	Failure   string // why there is no connection
}

// Forwarding tells how the syslog servers are.
func (s *Store) Forwarding() []ForwardStatus { return s.forwarding.status() }

func (f *forwarding) status() []ForwardStatus {
	f.mu.RLock()
	defer f.mu.RUnlock()
	var list []ForwardStatus
	for _, to := range f.servers {
		list = append(list, to.status())
	}
	return list
}

const (
	watchEvery    = time.Second
	closePatience = time.Second
)

// watch tells the system log of servers that come and go, and of what was
// dropped.
func (f *forwarding) watch(ctx context.Context) {
	type state struct {
		down    bool
		dropped uint64
		told    time.Time
	}
	known := map[string]state{}
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := map[string]state{}
		for _, st := range f.status() {
			was := known[st.Server]
			is := was
			is.down = !st.Connected && st.Failure != ""
			switch {
			case is.down && !was.down:
				f.tell(Event{Severity: High, Type: "syslog", EventID: "syslog-server-down", Object: st.Server, Description: "Syslog server cannot be reached: " + st.Failure})
			case was.down && st.Connected:
				f.tell(Event{Severity: Informational, Type: "syslog", EventID: "syslog-server-up", Object: st.Server, Description: "Syslog server is reached again."})
			}
			if st.Dropped > was.dropped && time.Since(was.told) >= tellEvery {
				is.dropped, is.told = st.Dropped, time.Now()
				f.tell(Event{Severity: High, Type: "syslog", EventID: "syslog-messages-dropped", Object: st.Server,
					Description: fmt.Sprintf("%d messages for the syslog server were dropped: it did not take them as fast as they came.", st.Dropped-was.dropped)})
			}
			now[st.Server] = is
		}
		known = now
	}
}

func (f *forwarding) close() error {
	f.stop()
	f.watched.Wait()
	f.change.Lock()
	defer f.change.Unlock()
	f.mu.Lock()
	servers := f.servers
	f.servers, f.rules = map[string]*forwarder{}, nil
	f.mu.Unlock()
	var errs []error
	for _, to := range servers {
		errs = append(errs, to.close(closePatience))
	}
	return errors.Join(errs...)
}
