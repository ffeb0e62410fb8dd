package sshd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Files is a flat set of small files that are exchanged whole. Names are
// checked before a method is called: one element, printable, not hidden.
//
// Errors that match fs.ErrNotExist or fs.ErrPermission become those of the
// protocol; the text of any other error is shown to the peer.
type Files interface {
	// List returns every file that may be seen, in the order to show.
	List(ctx context.Context) ([]Info, error)
	// Read returns a file's content.
	Read(ctx context.Context, name string) ([]byte, error)
	// Accepts returns nil where a file of this name may be written: it is
	// asked before the content comes.
	Accepts(ctx context.Context, name string) error
	// Write puts a file there, in place of one that may be there already; it
	// is seen as a whole or not at all.
	Write(ctx context.Context, name string, content []byte) error
}

// Info describes a file.
type Info struct {
	Name     string
	Size     int64
	Modified time.Time
	Writable bool
}

const maxFileName = 255

// fileName is the name that a peer's path means: "name", "./name" or "/name".
func fileName(path string) (string, error) {
	name := path
	if rest, ok := strings.CutPrefix(name, "./"); ok {
		name = rest
	} else {
		name = strings.TrimPrefix(name, "/")
	}
	switch {
	case name == "" || len(name) > maxFileName || !utf8.ValidString(name),
		strings.ContainsFunc(name, func(r rune) bool { return r == '/' || r == '\\' || !unicode.IsPrint(r) }),
		name[0] == '.':
		return "", fmt.Errorf("%w: %.40q is no name of a file here", fs.ErrNotExist, path)
	}
	return name, nil
}

// isTop reports whether a path means the one directory that there is.
func isTop(path string) bool {
	return path == "" || path == "." || path == "/" || path == "./" || path == "/."
}

func stat(ctx context.Context, files Files, name string) (Info, error) {
	list, err := files.List(ctx)
	if err != nil {
		return Info{}, err
	}
	for _, info := range list {
		if info.Name == name {
			return info, nil
		}
	}
	return Info{}, fmt.Errorf("%w: there is no %s", fs.ErrNotExist, name)
}

// mode is a file's or, with no name, the directory's, as stat(2) has it.
func (i Info) mode() uint32 {
	switch {
	case i.Name == "":
		return 0o040700
	case i.Writable:
		return 0o100600
	}
	return 0o100400
}

// tell is what a peer is told of an error, on one line.
func tell(err error) string {
	switch text := err.Error(); {
	case errors.Is(err, fs.ErrNotExist) && text == fs.ErrNotExist.Error():
		return "No such file or directory"
	case errors.Is(err, fs.ErrPermission) && text == fs.ErrPermission.Error():
		return "Permission denied"
	default:
		return strings.Map(func(r rune) rune {
			if !unicode.IsPrint(r) {
				return ' '
			}
			return r
		}, text)
	}
}
