package adminshell

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"moongate/internal/audit"
)

// defaultTail and maxTail bound what `audit tail` prints.
const (
	defaultTail = 20
	maxTail     = 10_000
)

var auditCommands = []command{
	{words: "audit tail", roles: auditors, needs: nothing, run: (*Shell).auditTail,
		options: []option{{name: "entries", short: "n", value: "N", help: "how many; 20 by default"}}, help: "The newest audit records."},
	{words: "audit verify", roles: auditors, needs: nothing, run: (*Shell).auditVerify,
		help: "Check the audit log against its signed checkpoints."},
}

func (s *Shell) auditTail(_ context.Context, a args) error {
	n := defaultTail
	if a.has("entries") {
		var err error
		if n, err = strconv.Atoi(a.get("entries")); err != nil || n < 1 || n > maxTail {
			return fmt.Errorf("%w: -entries %q; expected a number from 1 to %d", errUsage, a.get("entries"), maxTail)
		}
	}
	var line []byte
	for record, err := range audit.Records(s.appliance.AuditDir, max(0, s.appliance.Journal.Len()-int64(n))) {
		if err != nil {
			return err
		}
		line = append(record.AppendJSON(line[:0]), '\n')
		if _, err := s.term.Write(line); err != nil {
			return err
		}
	}
	return nil
}

// auditVerify checks what is on disk up to a checkpoint that it has made now.
func (s *Shell) auditVerify(ctx context.Context, _ args) error {
	if err := s.appliance.Journal.SignCheckpoint(ctx); err != nil {
		return err
	}
	report, err := audit.Verify(s.appliance.AuditDir, s.appliance.Journal.VerifierKey())
	if err != nil {
		return err
	}
	return PrintReport(s.term, report)
}

// PrintReport prints what verification of an audit log found; the error says
// that it found something.
func PrintReport(w io.Writer, r audit.Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "Records:\t%d\n", r.Records)
	fmt.Fprintf(t, "Covered by signed checkpoints:\t%d\n", r.Signed)
	fmt.Fprintf(t, "Checkpoints:\t%d\n", r.Checkpoints)
	fmt.Fprintf(t, "Unclean stops:\t%d\n", r.Recoveries)
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
	if !r.OK() {
		return fmt.Errorf("the audit log was tampered with or damaged: %d findings", int64(len(r.Findings))+r.Omitted)
	}
	fmt.Fprintln(w, "The audit log is whole.")
	return nil
}
