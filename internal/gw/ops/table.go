package ops

import (
	"slices"
	"strings"
)

// table holds the rows of all files, by their words.
var table = sorted(systemCommands(), jobCommands(), configurationCommands(), logCommands(),
	sessionCommands(), decryptionCommands(), masterKeyCommands(), administratorCommands(), certificateCommands(), fileCommands(), hsmCommands(), hsmGroupCommands())

func sorted(lists ...[]*Command) []*Command {
	all := slices.Concat(lists...)
	slices.SortStableFunc(all, func(a, b *Command) int { return strings.Compare(a.Words, b.Words) })
	return all
}

// topics are the help of words that lead to several commands, and of words that
// begin a group of arguments.
var topics = map[string]string{
	"check":    "Ask for one fact",
	"clear":    "End sessions, reset counts",
	"delete":   "Delete what is not configuration",
	"load":     "Load a configuration into the candidate",
	"request":  "Have the gateway do something",
	"revert":   "Throw changes away",
	"set":      "Set what is not configuration",
	"show":     "Show what the gateway does and has",
	"test":     "Try what would happen",
	"validate": "Check the candidate configuration",
	"filter":   "Show only what matches",
}
