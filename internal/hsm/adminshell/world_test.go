package adminshell

import (
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"moongate/client"
	"moongate/internal/audit"
	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/partition"
	"moongate/internal/hsm/store"
	"moongate/internal/hsm/users"
)

// The passwords of a test's HSM.
const (
	soPassword = "so-password"
	coPassword = "co-password"
	cuPassword = "cu-password"
)

var operator = Administrator{partition.Operator{Name: "tester", From: "here"}, users.RoleConsole}

// newAppliance makes an HSM on disk, initialised and empty.
func newAppliance(t *testing.T) *Appliance {
	t.Helper()
	dir := t.TempDir()
	key := filepath.Join(dir, "device.key")
	root, err := store.LoadOrCreateRootKey(key)
	must(t, err)
	st, err := store.Open(dir, root, store.Options{KeyFile: store.PlainKeyFile(key)})
	must(t, err)
	log := slog.New(slog.DiscardHandler)
	journal, err := audit.Open(filepath.Join(dir, "audit"), audit.Options{Origin: "test/1", Logger: log})
	must(t, err)
	hsm, err := partition.Open(partition.Options{Store: st, Journal: journal, Logger: log, NewKDF: quickKDF})
	must(t, err)
	must(t, hsm.Initialize(t.Context(), operator.Operator, partition.InitOptions{Label: "lab", Officer: []byte(soPassword)}))
	t.Cleanup(func() { must(t, errors.Join(hsm.Close(), journal.Close(), st.Close())) })
	return &Appliance{
		HSM: hsm, Journal: journal, AuditDir: filepath.Join(dir, "audit"), Inbox: dir, Logger: log,
		Version: "test", Listen: "192.0.2.1:1792", Certificate: "/hsm/server.pem", Fingerprint: "00ff",
	}
}

// quickKDF is as cheap as a stored derivation may be.
func quickKDF(p mech.Policy) mech.KDF {
	kdf := mech.NewKDF(p)
	kdf.Time, kdf.Memory, kdf.Threads = 1, 8<<10, 1
	return kdf
}

// script is a Terminal whose person answers from a list, and then not at all.
type script struct {
	answers []string
	out     strings.Builder
	// prompts are the questions, those for a secret with a star in front.
	prompts []string
}

func (s *script) Write(p []byte) (int, error) { return s.out.Write(p) }

func (s *script) Ask(prompt string, secret bool) (string, error) {
	if secret {
		prompt = "*" + prompt
	}
	s.prompts = append(s.prompts, prompt)
	if len(s.answers) == 0 {
		return "", errors.New("nobody is there")
	}
	answer := s.answers[0]
	s.answers = s.answers[1:]
	return answer, nil
}

// admin is a shell over a script.
type admin struct {
	t     *testing.T
	term  *script
	shell *Shell
	files map[string][]byte
}

// newAdmin starts a session that is logged in as the Security Officer.
func newAdmin(t *testing.T, a *Appliance) *admin {
	t.Helper()
	term := &script{}
	s := &admin{t: t, term: term, shell: New(a, operator, term)}
	s.ok("hsm login", soPassword)
	return s
}

// run runs a line with the answers to its questions, and returns its result
// and what it printed. Every answer must have been asked for.
func (s *admin) run(line string, answers ...string) (int, string) {
	s.t.Helper()
	words, err := Words(line)
	must(s.t, err)
	s.term.out.Reset()
	s.term.prompts, s.term.answers = nil, answers
	result := s.shell.Run(s.t.Context(), Request{Words: words, Files: s.files})
	if len(s.term.answers) > 0 {
		s.t.Errorf("%s: %d answers were not asked for", line, len(s.term.answers))
	}
	return result, s.term.out.String()
}

// ok runs a line that must succeed.
func (s *admin) ok(line string, answers ...string) string {
	s.t.Helper()
	result, out := s.run(line, answers...)
	if result != 0 || !strings.HasSuffix(out, "\nCommand Result : 0 (Success)\n") {
		s.t.Fatalf("%s: result %d\n%s", line, result, out)
	}
	return out
}

// fails runs a line that must fail for a reason, saying all of words.
func (s *admin) fails(reason, line string, answers []string, words ...string) {
	s.t.Helper()
	result, out := s.run(line, answers...)
	if result != 65535 || !strings.HasSuffix(out, "\nCommand Result : 65535 ("+reason+")\n") {
		s.t.Errorf("%s: result %d, want 65535 (%s)\n%s", line, result, reason, out)
	}
	for _, word := range words {
		if !strings.Contains(out, word) {
			s.t.Errorf("%s does not say %q:\n%s", line, word, out)
		}
	}
}

func newCertificate(t *testing.T) []byte {
	t.Helper()
	cert, _, err := client.NewCertificate("c")
	must(t, err)
	return cert
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
