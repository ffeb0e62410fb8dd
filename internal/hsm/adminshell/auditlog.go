package adminshell

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"text/tabwriter"

	"moongate/internal/audit"
)

func (s *Shell) auditTail(_ context.Context, a args) error {
	n, err := a.entries()
	if err != nil {
		return err
	}
	list := []json.RawMessage{}
	var line []byte
	for record, err := range audit.Tail(s.appliance.AuditDir, n) {
		if err != nil {
			return err
		}
		if a.has("json") {
			list = append(list, record.AppendJSON(nil))
			continue
		}
		line = append(record.AppendJSON(line[:0]), '\n')
		if _, err := s.term.Write(line); err != nil {
			return err
		}
	}
	if a.has("json") {
		return s.printJSON(list)
	}
	return nil
}

// segmentView is a file of records.
type segmentView struct {
	Name    string `json:"name"`
	First   int64  `json:"first"`
	Records int64  `json:"records"`
	Bytes   int64  `json:"bytes,omitempty"`
	// Open: records are still added; it cannot be archived yet.
	Open bool `json:"open"`
}

// auditList lists the closed files and, as one, what comes after them.
func (s *Shell) auditList(_ context.Context, a args) error {
	closed, err := s.appliance.Journal.Archivable()
	if err != nil {
		return err
	}
	list := []segmentView{}
	var next int64
	for _, c := range closed {
		list = append(list, segmentView{Name: c.Name, First: c.First, Records: c.Records, Bytes: c.Bytes})
		next = c.First + c.Records
	}
	if len(closed) == 0 { // the first record that is here
		for record, err := range audit.Records(s.appliance.AuditDir, 0) {
			if err != nil {
				return err
			}
			next = record.Seq
			break
		}
	}
	list = append(list, segmentView{Name: "(open)", First: next, Records: max(0, s.appliance.Journal.Len()-next), Open: true})
	if a.has("json") {
		return s.printJSON(list)
	}
	t := s.table()
	fmt.Fprintln(t, "File\tFirst record\tRecords\tSize")
	for _, f := range list {
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\n", f.Name, f.First, f.Records, yesNo(f.Open, "", size(f.Bytes)))
	}
	return t.Flush()
}

// archive is where closed files of records are moved to.
func (s *Shell) archive() string {
	return filepath.Join(filepath.Dir(s.appliance.AuditDir), "audit-archive")
}

// archives are the directories to look for what is not in the log any more.
func (s *Shell) archives() ([]string, error) {
	_, err := os.Stat(s.archive())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return []string{s.archive()}, err
}

func (s *Shell) auditArchive(ctx context.Context, _ args) error {
	var moved []audit.Segment
	err := s.auditorsDo(ctx, "audit archive", s.archive(), func() error {
		var err error
		moved, err = s.appliance.Journal.Archive(ctx, s.archive())
		return err
	})
	if err != nil {
		return err
	}
	for _, m := range moved {
		fmt.Fprintf(s.term, "%s: records %d to %d\n", m.Name, m.First, m.First+m.Records-1)
	}
	fmt.Fprintf(s.term, "Number of files moved to %s: %d\n", s.archive(), len(moved))
	return nil
}

// auditVerify checks what is on disk up to a checkpoint that it has made now.
func (s *Shell) auditVerify(ctx context.Context, a args) error {
	if err := s.appliance.Journal.SignCheckpoint(ctx); err != nil {
		return err
	}
	archives, err := s.archives()
	if err != nil {
		return err
	}
	report, err := audit.Verify(s.appliance.AuditDir, s.appliance.Journal.VerifierKey(), archives...)
	if err != nil {
		return err
	}
	if !a.has("json") {
		return PrintReport(s.term, report)
	}
	if err := s.printJSON(report); err != nil {
		return err
	}
	return reported(report)
}

func (s *Shell) auditCheckpoint(ctx context.Context, a args) error {
	if err := s.appliance.Journal.SignCheckpoint(ctx); err != nil {
		return err
	}
	note := string(s.appliance.Journal.Checkpoint())
	if a.has("json") {
		return s.printJSON(map[string]string{"checkpoint": note, "public_key": s.appliance.Journal.VerifierKey()})
	}
	fmt.Fprint(s.term, note)
	return nil
}

func (s *Shell) auditProve(ctx context.Context, a args) error {
	n, err := strconv.ParseInt(a.get("record"), 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("%w: -record %q; expected the number of a record, from 0", errUsage, a.get("record"))
	}
	if err := s.appliance.Journal.SignCheckpoint(ctx); err != nil {
		return err
	}
	archives, err := s.archives()
	if err != nil {
		return err
	}
	proof, err := audit.ProveFile(s.appliance.AuditDir, s.appliance.Journal.VerifierKey(), n, archives...)
	if err != nil {
		return err
	}
	event, err := audit.VerifyProof(proof, s.appliance.Journal.VerifierKey())
	if err != nil {
		return err
	}
	if a.has("json") {
		return s.printJSON(map[string]any{"record": json.RawMessage(event.AppendJSON(nil)), "proof": string(proof), "public_key": s.appliance.Journal.VerifierKey()})
	}
	_, err = s.term.Write(proof)
	return err
}

// PrintReport prints what verification of an audit log found; the error says
// that it found something.
func PrintReport(w io.Writer, r audit.Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "Records:\t%d in %d files\n", r.Records, r.Segments)
	if r.Archived > 0 {
		fmt.Fprintf(t, "Archived before these, not looked at:\t%d records; name their directory with -archive to verify them, too\n", r.Archived)
	}
	fmt.Fprintf(t, "Covered by signed checkpoints:\t%d\n", r.Signed)
	fmt.Fprintf(t, "Checkpoints:\t%d\n", r.Checkpoints)
	fmt.Fprintf(t, "Unclean stops:\t%d%s\n", r.Recoveries, see(r.Recoveries, "log.recovered"))
	fmt.Fprintf(t, "Failed writes that may have taken records:\t%d%s\n", r.Gaps, see(r.Gaps, "log.gap"))
	fmt.Fprintf(t, "Times that key uses went on without a record:\t%d%s\n", r.Uncounted, see(r.Uncounted, "log.uncounted"))
	fmt.Fprintf(t, "Latest root:\t%v\n", r.Latest.Hash)
	if err := t.Flush(); err != nil {
		return err
	}
	for _, warning := range r.Warnings {
		fmt.Fprintf(w, "Warning: %s\n", warning)
	}
	for _, finding := range r.Findings {
		fmt.Fprintf(w, "FOUND: %v\n", finding)
	}
	if r.Omitted > 0 {
		fmt.Fprintf(w, "FOUND: %d more, which are not listed\n", r.Omitted)
	}
	if err := reported(r); err != nil {
		return err
	}
	fmt.Fprintln(w, "The audit log is whole.")
	return nil
}

// see says which records tell more, where there are any.
func see(n int64, action string) string {
	if n == 0 {
		return ""
	}
	return "; see the records " + action
}

func reported(r audit.Report) error {
	if r.OK() {
		return nil
	}
	return fmt.Errorf("the audit log was tampered with or damaged: %d findings", int64(len(r.Findings))+r.Omitted)
}
