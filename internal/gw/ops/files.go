package ops

import (
	"context"
	"fmt"

	"moongate/internal/gw/mgmt"
)

func fileCommands() []*Command {
	return []*Command{
		{Words: "show files", Help: "Show the files that you brought by scp, for commands to take", run: showFiles},
		{Words: "delete file", Help: "Delete a file that you brought by scp", Args: []Arg{
			{Name: "name", Bare: true, Required: true, Help: "The file's name", known: knownFiles}}, run: deleteFile},
	}
}

func showFiles(ctx context.Context, in *invocation) (*Result, error) {
	list, err := in.m.Files(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	e, g := E("files"), newGrid("Name", "Bytes", "Brought")
	for _, f := range list {
		size := fmt.Sprint(f.Size)
		e.Add(Entry(f.Name, T("bytes", size), T("brought", stamp(f.At))))
		g.row(f.Name, size, stamp(f.At))
	}
	if len(list) == 0 {
		return &Result{Elements: []*Element{e}, Text: "No files. Bring one: scp FILE " + in.caller.Name + "@GATEWAY:\n"}, nil
	}
	return &Result{Elements: []*Element{e}, Text: g.text()}, nil
}

func deleteFile(ctx context.Context, in *invocation) (*Result, error) {
	if err := in.m.DropFile(ctx, in.caller, in.Value("name")); err != nil {
		return nil, err
	}
	return message("Deleted %s", in.Value("name")), nil
}

func knownFiles(ctx context.Context, m *mgmt.Manager, c mgmt.Caller) []Option {
	list, err := m.Files(ctx, c)
	if err != nil {
		return nil // the command itself will say why
	}
	var found []Option
	for _, f := range list {
		found = append(found, Option{f.Name, fmt.Sprintf("%d bytes", f.Size)})
	}
	return found
}
