package adminshell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"moongate/internal/hsm/partition"
)

// Backups and domain secrets under a passphrase go to and come from files of the
// caller's, who must be at the console: nothing of the kind travels over SSH.
var backupCommands = []command{
	{words: "hsm domain export", roles: console, options: []option{optFileOut}, run: (*Shell).domainExport,
		help: "Write the HSM's domain secret, sealed under a passphrase that is asked for (Security Officer; console).\nHSMs of one domain restore each other's backups; whoever has file and passphrase can make one."},
	{words: "hsm domain import", roles: console, options: []option{optFileIn}, run: (*Shell).domainImport,
		help: "Make this HSM, which must hold no partition, one of the domain in a file (Security Officer; console)."},
	{words: "hsm backup", roles: console, options: []option{optFileOut, {name: "partition", short: "p", value: "PARTITION[,PARTITION]", help: "only these partitions", values: partitionLabels}}, run: (*Shell).backup,
		help: "Write an encrypted copy of the HSM, or of some partitions, to a file (Security Officer; console).\nOnly an HSM of the same domain can read it."},
	{words: "hsm restore", roles: console, options: []option{optFileIn, {name: "replace", help: "destroy a partition that is there already, and put the copy in its place"}, optForce}, run: (*Shell).restore,
		help: "Bring back what `hsm backup` wrote (Security Officer; console)."},
}

var (
	optFileOut = option{name: "file", value: "FILE", required: true, stream: toCaller, help: "the file to be made, on the caller's side; it must not exist"}
	optFileIn  = option{name: "file", value: "FILE", required: true, stream: fromCaller, help: "the file, on the caller's side"}
)

// Streams is what a Terminal at the console has besides: files of the caller's,
// read and written piece by piece as the HSM makes or takes them.
type Streams interface {
	// Create makes a file, mode 0600, where there is none. It is there only
	// once Commit has succeeded; Abort leaves nothing behind.
	Create(path string) (Output, error)
	// Open reads a file.
	Open(path string) (io.ReadCloser, error)
}

// Output is a file being made. One of Commit and Abort ends it.
type Output interface {
	io.Writer
	Commit() error
	Abort()
}

// errNoFiles says so of a terminal that is no console.
var errNoFiles = errors.New("this terminal has no files; run the command on the HSM's own machine, with `moongate-hsm`")

func (s *Shell) streams() (Streams, error) {
	if p, is := s.term.(printable); is {
		if f, has := p.Terminal.(Streams); has {
			return f, nil
		}
	}
	return nil, errNoFiles
}

// write makes the caller's file, which an option names, of what fill writes, or
// no file at all.
func (s *Shell) write(option, path string, fill func(io.Writer) error) error {
	files, err := s.streams()
	if err != nil {
		return err
	}
	out, err := files.Create(path)
	if err != nil {
		return fmt.Errorf("-%s %s: %w", option, path, err)
	}
	if err := fill(out); err != nil {
		out.Abort()
		return err
	}
	if err := out.Commit(); err != nil {
		return fmt.Errorf("-%s %s: %w", option, path, err)
	}
	return nil
}

// read lets use read the caller's file.
func (s *Shell) read(path string, use func(io.Reader) error) error {
	files, err := s.streams()
	if err != nil {
		return err
	}
	in, err := files.Open(path)
	if err != nil {
		return fmt.Errorf("-file %s: %w", path, err)
	}
	return errors.Join(use(in), in.Close())
}

func (s *Shell) domainExport(ctx context.Context, a args) error {
	o, err := s.asOfficer(ctx)
	if err != nil {
		return err
	}
	passphrase, err := s.askNew("the domain's file")
	if err != nil {
		return err
	}
	defer clear(passphrase)
	err = s.write("file", a.get("file"), func(w io.Writer) error {
		sealed, err := o.ExportDomain(ctx, passphrase)
		if err != nil {
			return err
		}
		_, err = w.Write(sealed)
		return err
	})
	if err != nil {
		return err
	}
	s.successful("hsm domain export")
	return nil
}

// maxDomainFile bounds a domain secret's file in bytes.
const maxDomainFile = 64 << 10

func (s *Shell) domainImport(ctx context.Context, a args) error {
	o, err := s.asOfficer(ctx)
	if err != nil {
		return err
	}
	passphrase, err := s.ask("Please enter the password of the domain's file: ")
	if err != nil {
		return err
	}
	defer clear(passphrase)
	err = s.read(a.get("file"), func(r io.Reader) error {
		sealed, err := io.ReadAll(io.LimitReader(r, maxDomainFile+1))
		if err != nil {
			return err
		}
		if len(sealed) > maxDomainFile {
			return fmt.Errorf("-file %s has more than %d bytes; it holds no domain secret", a.get("file"), maxDomainFile)
		}
		return o.ImportDomain(ctx, sealed, passphrase)
	})
	if err != nil {
		return err
	}
	s.successful("hsm domain import")
	return nil
}

func (s *Shell) backup(ctx context.Context, a args) error {
	var names []string
	if a.has("partition") {
		names = strings.Split(a.get("partition"), ",")
	}
	o, err := s.asOfficer(ctx)
	if err != nil {
		return err
	}
	if err := s.write("file", a.get("file"), func(w io.Writer) error { return o.Backup(ctx, w, names...) }); err != nil {
		return err
	}
	s.successful("hsm backup")
	return nil
}

func (s *Shell) restore(ctx context.Context, a args) error {
	if a.has("replace") {
		err := s.confirm(a, "Partitions of the file that are on this HSM already are destroyed, with every key that the file does not hold.", "replace them")
		if err != nil {
			return err
		}
	}
	o, err := s.asOfficer(ctx)
	if err != nil {
		return err
	}
	var restored partition.Restored
	err = s.read(a.get("file"), func(r io.Reader) error {
		var err error
		restored, err = o.Restore(ctx, r, a.has("replace"))
		return err
	})
	if err != nil {
		return err
	}
	t := s.table()
	fmt.Fprintf(t, "Partitions:\t%s\n", strings.Join(restored.Partitions, ", "))
	fmt.Fprintf(t, "Objects:\t%d\n", restored.Objects)
	fmt.Fprintf(t, "Clients:\t%d\n", restored.Clients)
	if err := t.Flush(); err != nil {
		return err
	}
	s.successful("hsm restore")
	return nil
}
