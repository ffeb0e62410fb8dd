package audit

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// A Report is the result of [Verify].
type Report struct {
	Records     int64     // in place, counted up to the last
	Archived    int64     // records before the first that is here, vouched for by the frontier that was signed
	Segments    int       // files of records that were read
	Checkpoints int64     // with a good signature
	Signed      int64     // records that the largest of them covers
	Latest      tlog.Tree // the tree of that checkpoint
	Anchor      uint64    // of that checkpoint, if Anchored
	Anchored    bool
	Recoveries  int64 // events "log.recovered": unclean stops, which may have taken records
	Gaps        int64 // events "log.gap": fsyncs that failed, which may have taken records
	Uncounted   int64 // events "log.uncounted": key uses that went on without a record

	Findings []Finding // at most maxFindings
	Omitted  int64     // findings beyond these
	Warnings []string  // what is not tampering, and ought to be known
}

// OK reports whether nothing was found: the records are those that were
// signed. It says nothing of records cut off together with the checkpoints
// over them; for that, compare Latest with a checkpoint kept elsewhere.
func (r *Report) OK() bool { return len(r.Findings) == 0 }

// A Finding is a difference between the log and what was signed.
type Finding struct {
	First, Last int64 // record numbers that it is about, both included; -1 if it is not about records
	What        string
}

func (f Finding) String() string {
	switch {
	case f.First < 0:
		return f.What
	case f.First == f.Last:
		return fmt.Sprintf("record %d: %s", f.First, f.What)
	default:
		return fmt.Sprintf("records %d to %d: %s", f.First, f.Last, f.What)
	}
}

// maxFindings bounds the list in a Report.
const maxFindings = 100
