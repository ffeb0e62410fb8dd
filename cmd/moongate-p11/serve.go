package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"moongate/client"
	"moongate/internal/harden"
	"moongate/internal/hsm/server"
	"moongate/internal/ownsocket"
	"moongate/internal/p11"
	"moongate/internal/p11/handover"
)

// options are serve's.
type options struct {
	module, token, socket, pinFile string
	user                           uint
	sessions                       int
	hang                           time.Duration
	supervised                     bool
}

func parse(argv []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	flags.StringVar(&o.module, "module", "", "the module's path")
	flags.StringVar(&o.token, "token", "", "the token's label or serial number; the only one by default")
	flags.StringVar(&o.socket, "socket", "", "the socket's path; p11/socket in the data directory by default")
	flags.StringVar(&o.pinFile, "pin-file", "", "file of mode 0600 whose first line is the PIN; standard input by default")
	user := flags.String("user-type", "1", "the CKU_ number to log in as")
	flags.IntVar(&o.sessions, "sessions", 0, "the module's sessions, at most; 32 by default")
	flags.DurationVar(&o.hang, "hang", 0, "how long a call of the module's may take before the process ends; 25s by default")
	flags.BoolVar(&o.supervised, "supervised", false, "moongate has started this process, and hands over what is secret")
	if err := flags.Parse(argv); err != nil {
		return o, err
	}
	number, err := strconv.ParseUint(*user, 0, 32)
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("serve: %q is not expected", flags.Arg(0))
	case o.module == "":
		return o, errors.New("serve: -module is missing: the path of a PKCS#11 module, such as /usr/lib/softhsm/libsofthsm2.so")
	case err != nil:
		return o, fmt.Errorf("serve: -user-type is %q; a number is expected, such as 0x80000001", *user)
	case o.supervised && (o.pinFile != "" || o.socket == ""):
		return o, errors.New("serve: -supervised takes the PIN from standard input and needs -socket")
	case o.sessions < 0 || o.sessions > maxSessions:
		return o, fmt.Errorf("serve: -sessions is %d, expected 1 to %d", o.sessions, maxSessions)
	case o.hang < 0:
		return o, fmt.Errorf("serve: -hang is %v, a time is expected, such as 15s", o.hang)
	}
	o.user = uint(number)
	if o.sessions == 0 {
		o.sessions = 32
	}
	if o.socket == "" {
		o.socket = filepath.Join(dataDir(), "p11", "socket")
	}
	o.socket, err = filepath.Abs(o.socket)
	return o, err
}

const maxSessions = 1024

func dataDir() string {
	if top := os.Getenv("MOONGATE_DATA"); top != "" {
		return top
	}
	return "data"
}

// secrets are what the process needs and no argument tells.
type secrets struct {
	pin         []byte
	certificate tls.Certificate
	client      []byte // DER
}

func serve(argv []string) int {
	o, err := parse(argv)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return misused(err)
	}
	log := logger(o.supervised)
	harden.Memory(log)
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		log.Warn("this process could gain privileges", "error", err)
	}
	s := &service{options: o, log: log}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := s.run(ctx, cancel); err != nil {
		return s.end(err)
	}
	return 0
}

// service is a process that serves.
type service struct {
	options options
	log     *slog.Logger
	tell    sync.Mutex // held while an event is written, and for ever after End
}

// say tells the supervisor, where there is one.
func (s *service) say(e handover.Event) {
	if !s.options.supervised {
		return
	}
	s.tell.Lock()
	defer s.tell.Unlock()
	_ = handover.WriteEvent(os.Stdout, e) // without a supervisor the input ends, too
}

// end tells why the process ends, and returns its exit status. Nothing is told
// after.
func (s *service) end(err error) int {
	reason := reasonOf(err)
	s.tell.Lock()
	if s.options.supervised {
		_ = handover.WriteEvent(os.Stdout, handover.Event{Kind: handover.End, Reason: reason, Cause: err.Error()})
	} else {
		fmt.Fprintln(os.Stderr, "moongate-p11:", err)
	}
	return reason.Status()
}

func (s *service) run(ctx context.Context, cancel context.CancelFunc) error {
	keys, err := s.secrets(cancel)
	if err != nil {
		return err
	}
	module, err := load(s.options.module)
	if err != nil {
		return err
	}
	about, err := module.Info()
	if err != nil {
		return fmt.Errorf("asking the module what it is: %w", err)
	}
	token, err := p11.Open(p11.Options{
		Module: module, Token: s.options.token, PIN: keys.pin, User: s.options.user, Sessions: s.options.sessions, HangLimit: s.options.hang,
		// Threads that wait in the module cannot be ended: the process is.
		Fatal: func(err error) {
			time.AfterFunc(closeGrace, func() { os.Exit(reasonOf(err).Status()) }) // should nobody read what is told
			os.Exit(s.end(err))
		},
		Logger: s.log,
	})
	clear(keys.pin)
	if err != nil {
		return err
	}
	srv, err := server.New(server.Options{
		Backend: p11.Backend(token, sha256.Sum256(keys.client)), Certificate: keys.certificate, Serial: token.Slot().Serial,
		Software: text("moongate-p11 "+version+" on "+about, 128), Logger: s.log, MaxInFlight: 4 * s.options.sessions,
		// Those that wait for the module keep no processor.
		Workers: s.options.sessions, SlowWorkers: max(4, s.options.sessions/4), HeavyWorkers: 2,
		Grace: 2 * time.Second,
	})
	if err != nil {
		return err
	}
	listener, err := ownsocket.Listen(s.options.socket, "PKCS#11")
	if err != nil {
		return err
	}
	s.announce(token, about)
	beating := make(chan struct{})
	go func() { defer close(beating); s.beat(ctx, token) }()
	err = srv.Serve(ctx, ownsocket.Guard(listener))
	cancel()
	<-beating
	s.close(token)
	return err
}

// text cuts what is too long for the protocol.
func text(s string, limit int) string {
	if len(s) > limit {
		return string(bytes.ToValidUTF8([]byte(s[:limit]), nil))
	}
	return s
}

// close ends the module, if it lets that happen.
func (s *service) close(token *p11.Token) {
	done := make(chan error, 1)
	go func() { done <- token.Close() }()
	select {
	case err := <-done:
		if err != nil {
			s.log.Warn("the module did not end well", "error", err)
		}
	case <-time.After(closeGrace):
		s.log.Warn("the module does not end; the process does")
	}
}

const closeGrace = 2 * time.Second

func (s *service) announce(token *p11.Token, about string) {
	slot := token.Slot()
	s.say(handover.Event{Kind: handover.Ready, Module: about, Token: slot.Label, Serial: slot.Serial})
	if !s.options.supervised {
		fmt.Printf("listening on %s: token %q, serial number %s, of %s\n", s.options.socket, slot.Label, slot.Serial, about)
	}
}

// beat gives signs of life until ctx is done.
func (s *service) beat(ctx context.Context, token *p11.Token) {
	tick := time.NewTicker(handover.Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			h := token.Health()
			s.say(handover.Event{Kind: handover.Beat, Away: !h.Ready, Cause: h.Cause})
		}
	}
}

// secrets come from the supervisor, or from a person and the socket's directory.
// lost is called when the supervisor has ended.
func (s *service) secrets(lost func()) (secrets, error) {
	if !s.options.supervised {
		pin, err := s.readPIN()
		if err != nil {
			return secrets{}, err
		}
		keys, err := standAlone(s.options.socket, s.options.token)
		keys.pin = pin
		return keys, err
	}
	in := bufio.NewReader(os.Stdin)
	start, err := handover.ReadStart(in)
	if err != nil {
		return secrets{}, err
	}
	go func() {
		_, _ = io.Copy(io.Discard, in)
		lost()
	}()
	certificate, err := tls.X509KeyPair(start.Certificate, start.Key)
	clear(start.Key)
	if err != nil {
		return secrets{}, fmt.Errorf("reading the certificate that the supervisor hands over: %w", err)
	}
	return secrets{pin: start.PIN, certificate: certificate, client: start.Client}, nil
}

// readPIN reads the PIN from the file, or from standard input.
func (s *service) readPIN() ([]byte, error) {
	if s.options.pinFile != "" {
		pin, err := client.PasswordFile(s.options.pinFile)()
		if err != nil {
			return nil, fmt.Errorf("reading the PIN: %w", err)
		}
		return pin, nil
	}
	return askPIN(os.Stdin, os.Stderr)
}
