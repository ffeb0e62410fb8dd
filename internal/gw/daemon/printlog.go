package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"moongate/internal/gw/logstore"
)

// LogRequest says which entries of a gateway's logs PrintLog prints.
type LogRequest struct {
	Log    string // traffic, decryption, system or config
	Newest int    // so many of the newest, at most logstore.MaxLimit
	Filter string // empty chooses all
	Follow bool   // also those that come, until the context ends
}

// PrintLog prints entries of the logs in a data directory, the newest last, each
// as one line of JSON. It needs no running gateway, and disturbs none.
func PrintLog(ctx context.Context, dir string, request LogRequest, w io.Writer) error {
	log, err := logstore.ParseLog(request.Log)
	if err != nil {
		return err
	}
	files := In(dir)
	if _, err := os.Stat(files.Log()); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there are no logs in %s: name a gateway's directory with -data", dir)
	}
	reader := logstore.OpenReader(files.Log())
	defer reader.Close()
	print := func(e logstore.Entry) error {
		_, err := w.Write(append(e.AppendJSON(nil), '\n'))
		return err
	}
	q := logstore.Query{Log: log, Filter: request.Filter, Limit: request.Newest}
	if request.Follow {
		if err := reader.Follow(ctx, q, print); !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	}
	list, err := reader.Query(ctx, q)
	if err != nil {
		return err
	}
	for i := len(list) - 1; i >= 0; i-- {
		if err := print(list[i]); err != nil {
			return err
		}
	}
	return nil
}
