package adminshell

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"moongate/internal/audit"
	"moongate/internal/hsm/partition"
)

var auditCommands = []command{
	{words: "audit init", roles: auditors, run: (*Shell).auditInit,
		help: "Give the HSM its Auditor, or an Auditor whose password is lost a new one (the Security Officer, present)."},
	{words: "audit login", roles: auditors, run: (*Shell).auditLogin,
		help: "Log in as the Auditor until `audit logout` or the end of the session."},
	{words: "audit logout", roles: auditors, needs: nothing, run: (*Shell).auditLogout,
		help: "Log the Auditor out."},
	{words: "audit changePw", roles: auditors, run: (*Shell).auditChangePassword,
		help: "Change the Auditor's password, by the old one."},
	{words: "audit show", roles: auditors, options: []option{optJSON}, needs: nothing, run: (*Shell).auditShow,
		help: "The state of the audit log, and how it is kept."},
	{words: "audit config", roles: auditors, run: (*Shell).auditConfig,
		options: []option{
			{name: "strict", value: "on|off", help: "whether the record of a key's use is on the disk before the answer", values: choices("on", "before the answer", "off", "within 100 ms")},
			{name: "diskFull", value: "stop|count", help: "what becomes of key uses that cannot be recorded", values: choices("stop", "refuse them", "count", "let them be, count them, and record the count")},
			{name: "segmentSize", value: "BYTES", help: "when a file of records is closed and can be archived; also as in 64M"},
		},
		help: "Decide how the audit log is kept (Auditor). Where records are sent to is in the configuration file (syslog)."},
	{words: "audit log tail", roles: auditors, options: []option{optEntries, optJSON}, needs: nothing, run: (*Shell).auditTail,
		help: "The newest audit records, a line of JSON each; with -json, one list of them."},
	{words: "audit log list", roles: auditors, options: []option{optJSON}, needs: nothing, run: (*Shell).auditList,
		help: "The files of records."},
	{words: "audit log verify", roles: auditors, options: []option{optJSON}, needs: nothing, run: (*Shell).auditVerify,
		help: "Check the audit log, and what was archived, against the signed checkpoints."},
	{words: "audit checkpoint", roles: auditors, options: []option{optJSON}, needs: nothing, run: (*Shell).auditCheckpoint,
		help: "Sign a checkpoint over all that is recorded, and print it: keep it elsewhere, and history cannot be rewritten unseen."},
	{words: "audit prove", roles: auditors, needs: nothing, run: (*Shell).auditProve,
		options: []option{{name: "record", value: "N", required: true, operand: true, help: "the record's number"}, optJSON},
		help:    "Print a record with the proof that it is in the log (a file of C2SP tlog-proof)."},
	{words: "audit archive", roles: auditors, run: (*Shell).auditArchive,
		help: "Move the closed files of records to the directory audit-archive beside the log (Auditor)."},

	{words: "audit tail", roles: console, options: []option{optEntries, optJSON}, needs: nothing, run: (*Shell).auditTail,
		help: "The same as `audit log tail`."},
	{words: "audit verify", roles: console, options: []option{optJSON}, needs: nothing, run: (*Shell).auditVerify,
		help: "The same as `audit log verify`."},
}

func (s *Shell) auditInit(ctx context.Context, _ args) error {
	return s.officersDo(ctx, "audit init", func(o *partition.Officer) error {
		pw, err := s.askNew("the Auditor")
		if err != nil {
			return err
		}
		defer clear(pw)
		return o.InitAuditor(ctx, pw)
	})
}

func (s *Shell) auditLogin(ctx context.Context, _ args) error {
	s.logins.auditor = nil
	au, err := s.authenticateAuditor(ctx)
	if err != nil {
		return err
	}
	s.logins.auditor = au
	s.successful("audit login")
	return nil
}

func (s *Shell) auditLogout(context.Context, args) error {
	s.logins.auditor = nil
	s.successful("audit logout")
	return nil
}

// auditChangePassword asks for the old password also within a login, as
// hsmChangePassword does.
func (s *Shell) auditChangePassword(ctx context.Context, _ args) error {
	s.logins.auditor = nil
	au, err := s.authenticateAuditor(ctx)
	if err != nil {
		return err
	}
	fresh, err := s.askNew("the Auditor")
	if err != nil {
		return err
	}
	defer clear(fresh)
	if err := au.ChangePassword(ctx, fresh); err != nil {
		return err
	}
	s.successful("audit changePw")
	return nil
}

// auditView is the state of the audit log.
type auditView struct {
	Records int64 `json:"records"`
	// Signed is how many records the newest checkpoint covers.
	Signed int64 `json:"signed"`
	// Uncounted is how many key uses went on without a record that are not on
	// record as such yet.
	Uncounted int64      `json:"uncounted"`
	Policy    policyView `json:"policy"`
	PublicKey string     `json:"public_key"`
	// Error is why nothing can be recorded at present.
	Error string `json:"error,omitempty"`
}

type policyView struct {
	Strict       bool         `json:"strict"`
	OnFull       audit.OnFull `json:"disk_full"`
	SegmentBytes int64        `json:"segment_bytes"`
}

func (s *Shell) auditView() auditView {
	j := s.appliance.Journal
	p := j.Policy()
	v := auditView{Records: j.Len(), Uncounted: j.Uncounted(), Policy: policyView{p.Strict, p.OnFull, p.SegmentBytes}, PublicKey: j.VerifierKey()}
	if tree, err := audit.ParseCheckpoint(j.Checkpoint(), j.VerifierKey()); err == nil {
		v.Signed = tree.N
	}
	if err := j.Err(); err != nil {
		v.Error = err.Error()
	}
	return v
}

func (v auditView) String() string {
	if v.Error != "" {
		return "CANNOT BE WRITTEN: " + v.Error
	}
	return fmt.Sprintf("%d records, %d of them under a signed checkpoint", v.Records, v.Signed)
}

func (s *Shell) auditShow(_ context.Context, a args) error {
	v := s.auditView()
	if a.has("json") {
		return s.printJSON(v)
	}
	t := s.table()
	fmt.Fprintf(t, "Audit log:\t%s\n", v)
	fmt.Fprintf(t, "Uses without a record:\t%d\n", v.Uncounted)
	fmt.Fprintf(t, "Strict:\t%s\n", yesNo(v.Policy.Strict, "on", "off"))
	fmt.Fprintf(t, "When the disk is full:\t%s\n", v.Policy.OnFull)
	fmt.Fprintf(t, "Files are closed at:\t%s\n", size(v.Policy.SegmentBytes))
	fmt.Fprintf(t, "Public key:\t%s\n", v.PublicKey)
	return t.Flush()
}

func (s *Shell) auditConfig(ctx context.Context, a args) error {
	p := s.appliance.Journal.Policy()
	if len(a.values) == 0 {
		return fmt.Errorf("%w: say what to change; `audit show` shows what is set", errUsage)
	}
	if a.has("strict") {
		switch {
		case isOneOf(a.get("strict"), "on"):
			p.Strict = true
		case isOneOf(a.get("strict"), "off"):
			p.Strict = false
		default:
			return fmt.Errorf("%w: -strict %q; expected on or off", errUsage, a.get("strict"))
		}
	}
	if a.has("diskFull") {
		p.OnFull = audit.OnFull(strings.ToLower(a.get("diskFull")))
	}
	if a.has("segmentSize") {
		var err error
		if p.SegmentBytes, err = parseSize(a.get("segmentSize")); err != nil {
			return fmt.Errorf("%w: -segmentSize %w", errUsage, err)
		}
	}
	if err := p.Check(); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	return s.auditorsDo(ctx, "audit config", p.String(), func() error { return s.appliance.Journal.SetPolicy(ctx, p) })
}

// auditorsDo runs and records an act of the Auditor's.
func (s *Shell) auditorsDo(ctx context.Context, words, about string, do func() error) error {
	au, err := s.asAuditor(ctx)
	if err != nil {
		return err
	}
	if err := au.Act(ctx, strings.ReplaceAll(words, " ", "."), about, do); err != nil {
		return err
	}
	s.successful(words)
	return nil
}

// parseSize reads a number of bytes, with K, M, G or T for powers of 1024.
func parseSize(text string) (int64, error) {
	digits := strings.TrimRight(strings.ToUpper(text), "KMGT")
	suffix := strings.ToUpper(text)[len(digits):]
	shift := map[string]int{"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
	n, err := strconv.ParseInt(digits, 10, 64)
	by, known := shift[suffix]
	if err != nil || !known || n < 0 || n > math.MaxInt64>>by {
		return 0, fmt.Errorf("%q; expected a number of bytes, as in 67108864 or 64M", text)
	}
	return n << by, nil
}
