package adminshell

import (
	"context"
	"fmt"
	"strings"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/partition"
	"moongate/internal/shell"
)

var partitionCommands = []command{
	{words: "partition create", roles: operators, run: (*Shell).partitionCreate,
		options: []option{{name: "partition", short: "p", value: "LABEL", required: true, help: "label of the new partition"}},
		help:    "Make an empty partition (Security Officer)."},
	{words: "partition init", roles: operators, options: []option{optPartition}, run: (*Shell).partitionInit,
		help: "Give a partition a Security Officer of its own (HSM's Security Officer).\nFrom then on that officer administers its roles and policies, and the HSM's cannot."},
	{words: "partition login", roles: operators, options: []option{optPartition}, run: (*Shell).partitionLogin,
		help: "Log in as a partition's Security Officer until `partition logout` or the end of the session."},
	{words: "partition logout", roles: operators, needs: nothing, run: (*Shell).partitionLogout,
		help: "Log the Security Officers of partitions out."},
	{words: "partition list", roles: lookers, options: []option{optJSON}, run: (*Shell).partitionList,
		help: "Every partition."},
	{words: "partition show", roles: lookers, options: []option{optPartition, optJSON}, run: (*Shell).partitionShow,
		help: "One partition: roles, clients, state, the partitions that it clones with, its HA group."},
	{words: "partition showContents", roles: operators, run: (*Shell).partitionContents,
		options: []option{optPartition, roleOption(object.RoleCryptoOfficer, object.RoleCryptoUser).orElse(object.RoleCryptoOfficer), optJSON},
		help:    "The objects of a partition: handle, class, label (by the password of its Crypto Officer or Crypto User)."},
	{words: "partition showPolicies", roles: lookers, options: []option{optPartition, optJSON}, run: (*Shell).partitionPolicies,
		help: "The policies of a partition."},
	{words: "partition changePolicy", roles: operators, run: (*Shell).partitionChangePolicy,
		options: []option{
			optPartition,
			{name: "policy", value: "POLICY", required: true, help: "the policy's number or name", values: policyNames},
			{name: "value", value: "VALUE", required: true, help: "a number; on or off for a switch", values: policyValues},
		},
		help: "Set a policy of a partition (its Security Officer)."},
	{words: "partition deactivate", roles: operators, options: []option{optPartition}, run: (*Shell).partitionDeactivate,
		help: "Forget what keeps an activated partition unlocked, once nobody is logged in to it."},
	{words: "partition delete", roles: admins, options: []option{optPartition, optForce}, run: (*Shell).partitionDelete,
		help: "Destroy a partition and every key in it (Security Officer)."},
}

// officersDo runs an act of the Security Officer's.
func (s *Shell) officersDo(ctx context.Context, words string, do func(*partition.Officer) error) error {
	o, err := s.asOfficer(ctx)
	if err != nil {
		return err
	}
	if err := do(o); err != nil {
		return err
	}
	s.successful(words)
	return nil
}

func (s *Shell) partitionCreate(ctx context.Context, a args) error {
	return s.officersDo(ctx, "partition create", func(o *partition.Officer) error { return o.CreatePartition(ctx, a.get("partition")) })
}

func (s *Shell) partitionDelete(ctx context.Context, a args) error {
	name := a.get("partition")
	if err := s.confirm(a, "Are you sure you wish to delete the partition named: "+name+", with every key in it?", "delete the partition"); err != nil {
		return err
	}
	return s.officersDo(ctx, "partition delete", func(o *partition.Officer) error { return o.DeletePartition(ctx, name) })
}

func (s *Shell) partitionInit(ctx context.Context, a args) error {
	return s.initPartition(ctx, "partition init", a.get("partition"))
}

// initPartition is `partition init`, and `role init -role po`.
func (s *Shell) initPartition(ctx context.Context, words, name string) error {
	return s.officersDo(ctx, words, func(o *partition.Officer) error {
		pw, err := s.askNew("partition " + name + "'s Security Officer")
		if err != nil {
			return err
		}
		defer clear(pw)
		return o.InitPartition(ctx, name, pw)
	})
}

func (s *Shell) partitionLogin(ctx context.Context, a args) error {
	status, err := s.appliance.HSM.Partition(a.get("partition"))
	if err != nil {
		return err
	}
	if !hasOfficer(status) {
		return object.Errorf(object.ErrPINNotInitialized, "partition %s has no Security Officer of its own, so the HSM's administers it (`hsm login`); `partition init -partition %s` gives it one", status.Label, status.Label)
	}
	if old := s.logins.partitions[status.Serial]; old != nil {
		old.Close()
		delete(s.logins.partitions, status.Serial)
	}
	p, err := s.authenticatePartitionOfficer(ctx, status.Label)
	if err != nil {
		return err
	}
	if s.logins.partitions == nil {
		s.logins.partitions = map[string]*partition.PartitionOfficer{}
	}
	s.logins.partitions[status.Serial] = p
	s.successful("partition login")
	return nil
}

func (s *Shell) partitionLogout(context.Context, args) error {
	s.logins.forgetPartitions()
	s.successful("partition logout")
	return nil
}

func (s *Shell) partitionList(_ context.Context, a args) error {
	list, err := s.appliance.HSM.Partitions()
	if err != nil {
		return err
	}
	if a.has("json") {
		return s.printJSON(list)
	}
	t := s.table()
	fmt.Fprintln(t, "Partition\tSerial #\tActive\tClients")
	for _, p := range list {
		fmt.Fprintf(t, "%s\t%s\t%v\t%s\n", p.Label, p.Serial, p.Active, strings.Join(p.Clients, ", "))
	}
	return t.Flush()
}

func (s *Shell) partitionShow(_ context.Context, a args) error {
	p, err := s.appliance.HSM.Partition(a.get("partition"))
	if err != nil {
		return err
	}
	replication, err := s.appliance.HSM.Replication(p.Serial)
	if err != nil {
		return err
	}
	v := partitionView{p, newReplicationView(replication)}
	if a.has("json") {
		return s.printJSON(v)
	}
	t := s.table()
	fmt.Fprintf(t, "Partition Name:\t%s\n", p.Label)
	fmt.Fprintf(t, "Partition SN:\t%s\n", p.Serial)
	fmt.Fprintf(t, "Created:\t%s\n", p.Created.Format(time.RFC3339))
	fmt.Fprintf(t, "Active:\t%v\n", p.Active)
	for _, r := range p.Roles {
		fmt.Fprintf(t, "Role %s:\t%s\n", r.Role, roleState(r))
	}
	fmt.Fprintf(t, "Clients:\t%s\n", strings.Join(p.Clients, ", "))
	v.Replication.print(t)
	return t.Flush()
}

func (s *Shell) partitionPolicies(_ context.Context, a args) error {
	p, err := s.appliance.HSM.Partition(a.get("partition"))
	if err != nil {
		return err
	}
	if a.has("json") {
		return s.printJSON(p.Policies)
	}
	t := s.table()
	fmt.Fprintln(t, "Number\tPolicy\tValue\tDefault\tMeaning")
	for _, v := range p.Policies {
		info, err := object.ParsePolicy(v.Name)
		if err != nil {
			return err
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\n", info.ID, v.Name, v.Text, info.Format(v.Default), v.Help)
	}
	return t.Flush()
}

// policyValues are those that the policy which was typed may have.
func policyValues(_ *Shell, a args) []shell.Candidate {
	info, err := object.ParsePolicy(a.get("policy"))
	if err != nil {
		return nil
	}
	var list []shell.Candidate
	for _, v := range info.Allowed {
		list = append(list, shell.Candidate{Word: info.Format(v)})
	}
	return list
}

func (s *Shell) partitionChangePolicy(ctx context.Context, a args) error {
	info, err := object.ParsePolicy(a.get("policy"))
	if err != nil {
		return err
	}
	value, err := info.Parse(a.get("value"))
	if err != nil {
		return err
	}
	return s.partitionsDo(ctx, a.get("partition"), "partition changePolicy", func(p *partition.PartitionOfficer) error {
		return p.SetPolicy(ctx, object.PolicyValue{ID: info.ID, Value: value})
	})
}

func (s *Shell) partitionDeactivate(ctx context.Context, a args) error {
	if err := s.appliance.HSM.Deactivate(ctx, s.who.Operator, a.get("partition")); err != nil {
		return err
	}
	s.successful("partition deactivate")
	return nil
}
