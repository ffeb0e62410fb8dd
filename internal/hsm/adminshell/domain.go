package adminshell

import (
	"context"
	"fmt"

	"moongate/internal/hsm/partition"
)

// A domain secret goes from one HSM to another without a person seeing it: the
// one asks, the other seals it to the asking one alone, and both have pinned
// each other before. The files may travel in any way. A request
// is in the memory of the process that serves, so one has to.
var domainCommands = []command{
	{words: "hsm domain show", roles: lookers, options: []option{optJSON}, run: (*Shell).domainShow,
		help: "The domain's name. HSMs of one domain restore each other's backups, and may clone keys."},
	{words: "hsm domain request", roles: admins, control: true, run: (*Shell).domainRequest,
		options: []option{optPeer("the HSM whose domain this one shall join"), optOut(domainRequestFile)},
		help:    "Ask a pinned HSM for its domain (Security Officer). The HSM that asks must hold no partition.\nThe request is good for one hour, once, and until this HSM is started anew."},
	{words: "hsm domain share", roles: admins, run: (*Shell).domainShare,
		options: []option{
			optPeer("the HSM that made the request"),
			{name: "file", value: "FILE", file: true, inbox: true, help: "the request; over SSH " + domainRequestFile + " in the HSM's inbox"},
			optOut(domainShareFile), optForce,
		},
		help: "Seal this HSM's domain to the pinned HSM that made a request (Security Officer).\nAn HSM of the domain is trusted with every key that partitions clone to it."},
	{words: "hsm domain join", roles: admins, control: true, run: (*Shell).domainJoin,
		options: []option{
			optPeer("the HSM that shared its domain"),
			{name: "file", value: "FILE", file: true, inbox: true, help: "what it shared; over SSH " + domainShareFile + " in the HSM's inbox"},
		},
		help: "Become one of the domain that a pinned HSM shared (Security Officer).\nThis HSM must hold no partition; its own domain, and with it its backups, are gone."},
}

func optPeer(help string) option {
	return option{name: "peer", value: "NAME", required: true, help: help + ", by its name here", values: peerNames}
}

func optOut(name string) option {
	return option{name: "out", value: "FILE", stream: toCaller, help: "at the console, a file to be made; otherwise it is " + name + ", fetched by scp"}
}

func (s *Shell) domainShow(_ context.Context, a args) error {
	domain, err := s.appliance.HSM.DomainIdentity()
	if err != nil {
		return err
	}
	if a.has("json") {
		return s.printJSON(map[string]string{"domain": domain})
	}
	fmt.Fprintf(s.term, "Domain: %s\n", domain)
	return nil
}

func (s *Shell) domainRequest(ctx context.Context, a args) error {
	return s.officersDo(ctx, "hsm domain request", func(o *partition.Officer) error {
		request, err := o.RequestDomain(ctx, a.get("peer"))
		if err != nil {
			return err
		}
		return s.hand(a, domainRequestFile, request)
	})
}

func (s *Shell) domainShare(ctx context.Context, a args) error {
	request, err := s.delivered(a, "file", domainRequestFile)
	if err != nil {
		return err
	}
	caution := fmt.Sprintf("%s becomes one of this HSM's domain for ever: it can read this HSM's backups, and every key that partitions clone to it.", a.get("peer"))
	if err := s.confirm(a, caution, "share the domain"); err != nil {
		return err
	}
	return s.officersDo(ctx, "hsm domain share", func(o *partition.Officer) error {
		sealed, err := o.ShareDomain(ctx, a.get("peer"), request)
		if err != nil {
			return err
		}
		return s.hand(a, domainShareFile, sealed)
	})
}

func (s *Shell) domainJoin(ctx context.Context, a args) error {
	sealed, err := s.delivered(a, "file", domainShareFile)
	if err != nil {
		return err
	}
	return s.officersDo(ctx, "hsm domain join", func(o *partition.Officer) error { return o.JoinDomain(ctx, a.get("peer"), sealed) })
}
