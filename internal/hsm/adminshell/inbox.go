package adminshell

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"moongate/internal/durable"
)

// What HSMs hand each other to become one domain, by the fixed names under
// which scp fetches and delivers it. None of it is secret: a request is public,
// and a shared domain is sealed to the one HSM that asked.
const (
	domainRequestFile = "domain.request"
	domainShareFile   = "domain.share"
)

// domainFiles are the files of the inbox that are no certificates.
var domainFiles = []string{domainRequestFile, domainShareFile}

// maxDelivered bounds a file of the inbox in bytes.
const maxDelivered = 64 << 10

// delivered is the content of the file that an option names: one of the
// caller's, which came with the command, or over SSH one that scp put into the
// inbox. Where the option is left out it is the inbox's fallback.
func (s *Shell) delivered(a args, option, fallback string) ([]byte, error) {
	if content, sent := a.files[option]; sent && a.has(option) {
		return content, nil
	}
	name := fallback
	if a.has(option) {
		name = a.get(option)
	}
	if !slices.Contains(domainFiles, name) {
		kept, err := deliveredName(name)
		if err != nil {
			return nil, fmt.Errorf("-%s: %w", option, err)
		}
		name = kept
	}
	return s.readInbox(name)
}

// readInbox reads a file of the inbox, whose name holds no path: as it is
// written, or as scp delivers it.
func (s *Shell) readInbox(name string) ([]byte, error) {
	f, err := os.Open(filepath.Join(s.appliance.Inbox, name))
	if as, nameErr := deliveredName(name); errors.Is(err, fs.ErrNotExist) && nameErr == nil {
		f, err = os.Open(filepath.Join(s.appliance.Inbox, as))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no %s in the HSM's inbox; copy it there with `scp %s USER@HSM:`, or at the console name it as an option", name, name)
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxDelivered+1))
	if err == nil && len(content) > maxDelivered {
		err = fmt.Errorf("%s has more than %d bytes", name, maxDelivered)
	}
	return content, err
}

// hand gives content to the caller: into the file of his that -out names, or
// into the inbox, where scp fetches it by a fixed name.
func (s *Shell) hand(a args, name string, content []byte) error {
	if a.has("out") {
		return s.write("out", a.get("out"), func(w io.Writer) error {
			_, err := w.Write(content)
			return err
		})
	}
	if err := durable.WriteFile(filepath.Join(s.appliance.Inbox, name), content, 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", name, cause(err))
	}
	fmt.Fprintf(s.term, "It is in %s; fetch it with `scp USER@HSM:%s .`\n", name, name)
	return nil
}
