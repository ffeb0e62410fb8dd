package hsmlink

import (
	"fmt"
	"time"
)

// stagesOf makes the stages of what was found. The times of those that are as
// they were stay.
func stagesOf(before []Stage, reached int, failed *Error, s *ServerStatus, now time.Time) []Stage {
	list := make([]Stage, len(Stages))
	for i, name := range Stages {
		stage := Stage{Name: name, Level: Waiting, Since: now}
		switch {
		case i < reached:
			stage.Level, stage.Detail = Green, detailOf(name, s)
		case i == reached && failed != nil:
			stage.Level, stage.Problem = Red, &failed.Problem
		}
		if i < len(before) && before[i].Level == stage.Level && codeOf(before[i].Problem) == codeOf(stage.Problem) {
			stage.Since = before[i].Since
		}
		list[i] = stage
	}
	return list
}

func codeOf(p *Problem) Code {
	if p == nil {
		return ""
	}
	return p.Code
}

// detailOf is what was found at a stage that is green.
func detailOf(name StageName, s *ServerStatus) string {
	switch name {
	case StageTCP:
		return s.Address
	case StageRegistered:
		return s.Software
	case StageAssigned:
		return s.Partition
	case StageLogin:
		return s.Role
	case StageKeys:
		switch s.keys {
		case 0:
			return "no certificate needs one"
		case 1:
			return "1 key"
		}
		return fmt.Sprintf("%d keys", s.keys)
	}
	return ""
}
