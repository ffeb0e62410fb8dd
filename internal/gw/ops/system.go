package ops

import (
	"context"
	"time"
)

func systemCommands() []*Command {
	return []*Command{
		{Words: "show clock", Help: "Show the gateway's time", run: showClock},
	}
}

func showClock(context.Context, *invocation) (*Result, error) {
	text := time.Now().Format(time.UnixDate) + "\n"
	return &Result{Elements: []*Element{{Text: text}}, Text: text}, nil
}
