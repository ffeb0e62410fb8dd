package adminshell

import (
	"context"
	"fmt"
	"strings"
	"time"
)

var partitionCommands = []command{
	{words: "partition create", roles: operators, run: (*Shell).partitionCreate,
		options: []option{{name: "partition", short: "p", value: "LABEL", required: true, help: "label of the new partition"}},
		help:    "Make an empty partition (Security Officer)."},
	{words: "partition list", roles: lookers, options: []option{optJSON}, run: (*Shell).partitionList,
		help: "Every partition."},
	{words: "partition show", roles: lookers, options: []option{optPartition, optJSON}, run: (*Shell).partitionShow,
		help: "One partition: roles, clients, state."},
	{words: "partition delete", roles: admins, options: []option{optPartition, optForce}, run: (*Shell).partitionDelete,
		help: "Destroy a partition and every key in it (Security Officer)."},
}

func (s *Shell) partitionCreate(ctx context.Context, a args) error {
	o, err := s.asOfficer(ctx)
	if err != nil {
		return err
	}
	if err := o.CreatePartition(ctx, a.get("partition")); err != nil {
		return err
	}
	s.successful("partition create")
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
	if a.has("json") {
		return s.printJSON(p)
	}
	t := s.table()
	fmt.Fprintf(t, "Partition Name:\t%s\n", p.Label)
	fmt.Fprintf(t, "Partition SN:\t%s\n", p.Serial)
	fmt.Fprintf(t, "Created:\t%s\n", p.Created.Format(time.RFC3339))
	fmt.Fprintf(t, "Active:\t%v\n", p.Active)
	for _, r := range p.Roles {
		state := "not initialised"
		switch {
		case r.Locked:
			state = fmt.Sprintf("locked after %d wrong passwords", r.Failures)
		case r.Initialized:
			state = fmt.Sprintf("initialised, %d wrong passwords in a row", r.Failures)
		}
		fmt.Fprintf(t, "Role %s:\t%s\n", r.Role, state)
	}
	fmt.Fprintf(t, "Clients:\t%s\n", strings.Join(p.Clients, ", "))
	return t.Flush()
}

func (s *Shell) partitionDelete(ctx context.Context, a args) error {
	name := a.get("partition")
	if err := s.confirm(a, "Are you sure you wish to delete the partition named: "+name+", with every key in it?", "delete the partition"); err != nil {
		return err
	}
	o, err := s.asOfficer(ctx)
	if err != nil {
		return err
	}
	if err := o.DeletePartition(ctx, name); err != nil {
		return err
	}
	s.successful("partition delete")
	return nil
}
