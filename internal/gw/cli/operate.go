package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"moongate/internal/gw/ops"
	"moongate/internal/shell"
)

// operate runs a command of the operational mode.
func (s *session) operate(ctx context.Context, l line, term shell.Terminal) error {
	call, err := ops.Parse(l.words)
	if err != nil {
		return err
	}
	for _, a := range append(call.Missing(), call.Wanted(s.opts.Manager, s.caller)...) {
		if err := answer(call, a, term); err != nil {
			return err
		}
	}
	if caution := call.Command.Caution; caution != "" {
		if err := confirm(term, caution); err != nil {
			return err
		}
	}
	result, err := call.Run(ctx, s.opts.Manager, s.caller, func(line string) { fmt.Fprintln(term, line) })
	if err != nil {
		return err
	}
	if err := s.print(term, l, written(result, formatOf(l.pipes, braces))); err != nil {
		return err
	}
	if result.Job == 0 {
		return nil
	}
	return s.wait(ctx, result.Job, term, "Job "+fmt.Sprint(result.Job)+" completed successfully")
}

// answer asks for a secret that a command needs.
func answer(call *ops.Call, a ops.Arg, term shell.Terminal) error {
	prompt := a.Prompt
	if prompt == "" {
		prompt = strings.ToUpper(a.Name[:1]) + a.Name[1:]
	}
	prompt = strings.TrimRight(prompt, " :") + " : "
	var secret string
	var err error
	if a.Twice {
		secret, err = askTwice(term, prompt, "Confirm : ")
	} else {
		secret, err = term.Ask(prompt, true)
	}
	if errors.Is(err, shell.ErrNoAnswer) {
		return fmt.Errorf("%s is asked for, and there is no terminal to ask at: type it on standard input (ssh -t has a terminal)", a.Name)
	} else if err != nil {
		return err
	}
	return call.Answer(a.Name, secret)
}

// confirm tells what a command would do and asks whether to go on.
func confirm(term shell.Terminal, caution string) error {
	reply, err := term.Ask(caution+"\nDo you want to continue? (y or n) ", false)
	if errors.Is(err, shell.ErrNoAnswer) {
		return errors.New("nothing was done: the command asks before it acts, and no y came on standard input")
	} else if err != nil {
		return err
	}
	if reply = strings.ToLower(strings.TrimSpace(reply)); reply != "y" && reply != "yes" {
		return errors.New("nothing was done")
	}
	return nil
}

// written is a result as a person reads it, or a program.
func written(r *ops.Result, as format) string {
	switch as {
	case asJSON:
		return string(r.JSON()) + "\n"
	case asXML:
		var b bytes.Buffer
		for _, e := range r.Elements {
			e.Append(&b)
		}
		b.WriteByte('\n')
		return b.String()
	}
	return r.Text
}

// operational completes a command of the operational mode.
func (s *session) operational(ctx context.Context, words []word, partial string) []shell.Candidate {
	var list []shell.Candidate
	for _, o := range ops.Complete(ctx, s.opts.Manager, s.caller, words, partial) {
		list = append(list, shell.Candidate{Word: o.Word, Help: o.Help})
	}
	return list
}
