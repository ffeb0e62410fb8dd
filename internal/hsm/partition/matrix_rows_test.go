package partition

import (
	"bytes"
	"io"

	"moongate/internal/hsm/object"
)

var (
	anAESKey   = object.New(object.Number(object.AttrClass, uint64(object.ClassSecretKey)), object.Number(object.AttrKeyType, uint64(object.KeyAES)))
	activation = object.PolicyValue{ID: object.PolicyActivation, Value: 1}
)

// sessionAct, officerAct, partitionOfficerAct and auditorAct are acts of whoever
// got the session or the handle; who did not is told why then.
func sessionAct(do func(c *caller, s *Session) error) func(*caller) error {
	return func(c *caller) error { return do(c, c.asSession()) }
}

func officerAct(do func(c *caller, o *Officer) error) func(*caller) error {
	return func(c *caller) error {
		o, err := c.asOfficer()
		if err != nil {
			return err
		}
		return do(c, o)
	}
}

func partitionOfficerAct(do func(c *caller, po *PartitionOfficer) error) func(*caller) error {
	return func(c *caller) error {
		po, err := c.asPartitionOfficer()
		if err != nil {
			return err
		}
		return do(c, po)
	}
}

func auditorAct(do func(c *caller, au *Auditor) error) func(*caller) error {
	return func(c *caller) error {
		au, err := c.asAuditor()
		if err != nil {
			return err
		}
		return do(c, au)
	}
}

// registration is of a client that nobody is.
func (c *caller) registration() Registration {
	cert, _ := newCertificate(c.t)
	return Registration{Name: "other", Address: "192.0.2.99", Certificate: cert, Replace: true}
}

// guessed is the role that a password is tried for: the caller's own, or for
// who has none the Crypto Officer.
func (c *caller) guessed() object.Role {
	if c.role == object.RoleNone {
		return object.RoleCryptoOfficer
	}
	return c.role
}

// matrixRows is the table. A group for each state, a letter in it for each
// role: see matrixStates, matrixRoles, matrixOutcomes.
func matrixRows() []matrixRow {
	nothing := func() error { return nil }
	rows := []matrixRow{
		//                                           no HSM new    SO     whole  locked
		{"Session.Info", harmless, sessionAct(func(c *caller, s *Session) error { s.Info(); return nil }),
			"++++++ ++++++ ++++++ ++++++ ++++++"},
		{"Session.Status", harmless, sessionAct(func(c *caller, s *Session) error { _, err := s.Status(c.ctx(), newOp()); return err }),
			"NNNNNN ++++++ ++++++ ++++++ ++++++"},
		{"Session.Login", guesses, func(c *caller) error { return c.asSecond().Login(c.ctx(), newOp(), c.role, c.pw) },
			"UNNNUU UPPPUU UP++UU U+++UU UKKKUU"},
		{"Session.Logout", alters, sessionAct(func(c *caller, s *Session) error { return s.Logout(c.ctx(), newOp()) }),
			".+++.. ...... ..++.. .+++.. ......"},
		{"Session.Close", harmless, func(c *caller) error { c.asSecond().Close(); return nil },
			"++++++ ++++++ ++++++ ++++++ ++++++"},

		{"Session.Generate", harmless, sessionAct(func(c *caller, s *Session) error {
			_, _, err := s.Generate(c.ctx(), newOp(), ec, p256, nil)
			return err
		}), "NNNNNN ...... ..+U.. .U+U.. ......"},
		{"Session.Store", harmless, sessionAct(func(c *caller, s *Session) error {
			_, err := s.Store(c.ctx(), newOp(), object.New(object.Number(object.AttrClass, uint64(object.ClassCertificate)), object.Bytes(object.AttrValue, certificateFor(c.t))))
			return err
		}), "NNNNNN ...... ..+U.. .U+U.. ......"},
		{"Session.SetAttributes", harmless, sessionAct(func(c *caller, s *Session) error {
			return s.SetAttributes(c.ctx(), newOp(), c.key, object.New(object.Text(object.AttrLabel, "n")))
		}), "NNNNNN ...... ..+U.. .U+U.. ......"},
		{"Session.Destroy", alters, sessionAct(func(c *caller, s *Session) error { return s.Destroy(c.ctx(), newOp(), c.spare) }),
			"NNNNNN ...... ..+U.. .U+U.. ......"},
		{"Session.Unwrap", harmless, sessionAct(func(c *caller, s *Session) error {
			_, err := s.Unwrap(c.ctx(), newOp(), c.wrapping, kwp, c.wrapped, anAESKey)
			return err
		}), "NNNNNN ...... ..+U.. .U+U.. ......"},
		{"Session.Derive", harmless, sessionAct(func(c *caller, s *Session) error {
			_, err := s.Derive(c.ctx(), newOp(), c.base, object.Mechanism{Type: object.MechHKDFDerive, Hash: object.HashSHA256}, anAESKey.With(object.Number(object.AttrValueLen, 32)))
			return err
		}), "NNNNNN ...... ..+U.. .U+U.. ......"},
		{"Session.Wrap", harmless, sessionAct(func(c *caller, s *Session) error {
			_, err := s.Wrap(c.ctx(), newOp(), c.wrapping, c.free, kwp)
			return err
		}), "NNNNNN ...... ..+U.. .U+U.. ......"},
		{"Session.Find", harmless, sessionAct(func(c *caller, s *Session) error {
			_, _, err := s.Find(c.ctx(), newOp(), nil, nil, 0, 10)
			return err
		}), "NNNNNN ...... ..++.. .U++.. ......"},
		{"Session.Attributes", harmless, sessionAct(func(c *caller, s *Session) error {
			_, err := s.Attributes(c.ctx(), newOp(), c.key, nil)
			return err
		}), "NNNNNN ...... ..++.. .U++.. ......"},
		{"Session.Sign", harmless, sessionAct(func(c *caller, s *Session) error {
			_, err := recorded(s).Sign(c.ctx(), newOp(), c.key, ecdsa256, make([]byte, 32))
			return err
		}), "NNNNNN ...... ..++.. .U++.. ......"},
		{"Session.Verify", harmless, sessionAct(func(c *caller, s *Session) error {
			return s.Verify(c.ctx(), newOp(), c.public, ecdsa256, make([]byte, 32), c.signature)
		}), "NNNNNN ...... ..++.. .U++.. ......"},
		{"Session.Encrypt", harmless, sessionAct(func(c *caller, s *Session) error {
			_, err := recorded(s).Encrypt(c.ctx(), newOp(), c.cipher, gcm, []byte("x"))
			return err
		}), "NNNNNN ...... ..++.. .U++.. ......"},
		{"Session.Decrypt", harmless, sessionAct(func(c *caller, s *Session) error {
			_, err := recorded(s).Decrypt(c.ctx(), newOp(), c.cipher, gcm, c.sealed)
			return err
		}), "NNNNNN ...... ..++.. .U++.. ......"},
		{"Session.Random", harmless, sessionAct(func(c *caller, s *Session) error { _, err := s.Random(c.ctx(), newOp(), 8); return err }),
			"NNNNNN ...... ..++.. .U++.. ......"},

		{"Session.InitPartition", alters, sessionAct(func(c *caller, s *Session) error { return s.InitPartition(c.ctx(), newOp(), freshPW) }),
			"NNNNNN ++++++ XXXXXX XXXXXX XXXXXX"},
		{"Session.InitRole co", alters, sessionAct(func(c *caller, s *Session) error {
			return s.InitRole(c.ctx(), newOp(), object.RoleCryptoOfficer, freshPW)
		}), "NNNNNN ...... ..UU.. .XUU.. ......"},
		{"Session.InitRole cu", alters, sessionAct(func(c *caller, s *Session) error {
			return s.InitRole(c.ctx(), newOp(), object.RoleCryptoUser, freshPW)
		}), "NNNNNN ...... ..XU.. .UXU.. ......"},
		{"Session.ResetRole co", alters, sessionAct(func(c *caller, s *Session) error {
			return s.ResetRole(c.ctx(), newOp(), object.RoleCryptoOfficer, freshPW)
		}), "NNNNNN ...... ..UU.. .+UU.. ......"},
		{"Session.ResetRole cu", alters, sessionAct(func(c *caller, s *Session) error {
			return s.ResetRole(c.ctx(), newOp(), object.RoleCryptoUser, freshPW)
		}), "NNNNNN ...... ..+U.. .++U.. ......"},
		{"Session.UnlockRole co", alters, sessionAct(func(c *caller, s *Session) error {
			return s.UnlockRole(c.ctx(), newOp(), object.RoleCryptoOfficer)
		}), "NNNNNN ...... ..UU.. .+UU.. ......"},
		{"Session.UnlockRole po", alters, sessionAct(func(c *caller, s *Session) error {
			return s.UnlockRole(c.ctx(), newOp(), object.RolePartitionOfficer)
		}), "NNNNNN ...... ..UU.. .UUU.. ......"},
		{"Session.ChangePassword", guesses, sessionAct(func(c *caller, s *Session) error {
			return s.ChangePassword(c.ctx(), newOp(), c.guessed(), c.pw, freshPW)
		}), "NNNNNN PPPPUU WP++UU W+++UU KKKKUU"},
		{"Session.SetPolicy", alters, sessionAct(func(c *caller, s *Session) error { return s.SetPolicy(c.ctx(), newOp(), activation) }),
			"NNNNNN ...... ..UU.. .+UU.. ......"},
		{"Session.Deactivate", harmless, sessionAct(func(c *caller, s *Session) error { return s.Deactivate(c.ctx(), newOp()) }),
			"NNNNNN ...... ..+U.. .++U.. ......"},

		{"Session.Replica", harmless, sessionAct(func(c *caller, s *Session) error { _, err := s.Replica(c.ctx(), newOp()); return err }),
			"NNNNNN ++++++ ++++++ ++++++ ++++++"},
		{"Session.Digest", harmless, sessionAct(func(c *caller, s *Session) error { _, err := s.Digest(c.ctx(), newOp()); return err }),
			"NNNNNN ...... ..++.. .U++.. ......"},
		{"Session.Changes", harmless, sessionAct(func(c *caller, s *Session) error {
			_, _, err := s.Changes(c.ctx(), newOp(), 0, 10)
			return err
		}), "NNNNNN ...... ..++.. .U++.. ......"},
		{"Session.Group", harmless, sessionAct(func(c *caller, s *Session) error { _, err := s.Group(c.ctx(), newOp()); return err }),
			"NNNNNN ...... ..++.. .U++.. ......"},
		{"Session.SetGroup", alters, sessionAct(func(c *caller, s *Session) error { return s.SetGroup(c.ctx(), newOp(), 0, aGroup(1)) }),
			"NNNNNN ...... ..+U.. .U+U.. ......"},
		{"Session.SetPeer", harmless, sessionAct(func(c *caller, s *Session) error {
			return s.SetPeer(c.ctx(), newOp(), c.peer.id, "1234", true)
		}), "NNNNNN ...... ..+U.. .++U.. ......"},
		{"Session.OfferClone", harmless, sessionAct(func(c *caller, s *Session) error {
			_, err := s.OfferClone(c.ctx(), newOp(), c.peer.id, "1234")
			return err
		}), "NNNNNN ...... ..+U.. .U+U.. ......"},
		{"Session.CloneOut", harmless, sessionAct(func(c *caller, s *Session) error {
			_, _, err := s.CloneOut(c.ctx(), newOp(), c.peer.offer(c.world, nil), []object.ID{c.key})
			return err
		}), "NNNNNN ...... ..+U.. .U+U.. ......"},
		{"Session.CloneIn", harmless, sessionAct(func(c *caller, s *Session) error {
			_, err := s.CloneIn(c.ctx(), newOp(), []byte("no package"))
			return err
		}), "NNNNNN ...... ..DU.. .UDU.. ......"},

		{"PartitionOfficer.InitCryptoOfficer", alters, partitionOfficerAct(func(c *caller, po *PartitionOfficer) error {
			return po.InitCryptoOfficer(c.ctx(), freshPW)
		}), "IIIIII PPPP+P PPPPXP WXWWUW KKKKUK"},
		{"PartitionOfficer.ResetRole co", alters, partitionOfficerAct(func(c *caller, po *PartitionOfficer) error {
			return po.ResetRole(c.ctx(), object.RoleCryptoOfficer, freshPW)
		}), "IIIIII PPPPOP PPPPOP W+WWUW KKKKUK"},
		{"PartitionOfficer.ResetRole cu", alters, partitionOfficerAct(func(c *caller, po *PartitionOfficer) error {
			return po.ResetRole(c.ctx(), object.RoleCryptoUser, freshPW)
		}), "IIIIII PPPPOP PPPPOP W+WWUW KKKKUK"},
		{"PartitionOfficer.Recreate", alters, partitionOfficerAct(func(c *caller, po *PartitionOfficer) error { return po.Recreate(c.ctx(), freshPW) }),
			"IIIIII PPPP+P PPPP+P W+WWUW KKKKUK"},
		{"PartitionOfficer.UnlockRole co", alters, partitionOfficerAct(func(c *caller, po *PartitionOfficer) error {
			return po.UnlockRole(c.ctx(), object.RoleCryptoOfficer)
		}), "IIIIII PPPPPP PPPP+P W+WWUW KKKKUK"},
		{"PartitionOfficer.UnlockRole po", alters, partitionOfficerAct(func(c *caller, po *PartitionOfficer) error {
			return po.UnlockRole(c.ctx(), object.RolePartitionOfficer)
		}), "IIIIII PPPPPP PPPPPP WUWWUW KKKKUK"},
		{"PartitionOfficer.SetPolicy", alters, partitionOfficerAct(func(c *caller, po *PartitionOfficer) error { return po.SetPolicy(c.ctx(), activation) }),
			"IIIIII PPPP+P PPPP+P W+WWUW KKKKUK"},
		{"PartitionOfficer.ChangePassword", alters, partitionOfficerAct(func(c *caller, po *PartitionOfficer) error {
			return po.ChangePassword(c.ctx(), freshPW)
		}), "IIIIII PPPPUP PPPPUP W+WWUW KKKKUK"},
		{"PartitionOfficer.Close", alters, partitionOfficerAct(func(c *caller, po *PartitionOfficer) error { po.Close(); return nil }),
			"I+IIII PPPP+P PPPP+P W+WWUW KKKKUK"},

		{"Auditor.Act", harmless, auditorAct(func(c *caller, au *Auditor) error { return au.Act(c.ctx(), "audit.test", "", nothing) }),
			"IIIIII PPPPPP PPPPPP WWWWW+ KKKKKK"},
		{"Auditor.ChangePassword", alters, auditorAct(func(c *caller, au *Auditor) error { return au.ChangePassword(c.ctx(), freshPW) }),
			"IIIIII PPPPPP PPPPPP WWWWW+ KKKKKK"},

		{"Officer.CreatePartition", alters, officerAct(func(c *caller, o *Officer) error { return o.CreatePartition(c.ctx(), "q") }),
			"IIIIII WWWW+W WWWW+W WWWW+W WWWW+W"},
		{"Officer.DeletePartition", alters, officerAct(func(c *caller, o *Officer) error { return o.DeletePartition(c.ctx(), "p") }),
			"IIIIII WWWW+W WWWW+W WWWW+W WWWW+W"},
		{"Officer.InitPartition", alters, officerAct(func(c *caller, o *Officer) error { return o.InitPartition(c.ctx(), "p", freshPW) }),
			"IIIIII WWWW+W WWWW+W WWWWXW WWWWXW"},
		{"Officer.Partition", harmless, officerAct(func(c *caller, o *Officer) error { _, err := o.Partition("p"); return err }),
			"IIIIII WWWW+W WWWW+W WWWWUW WWWWUW"},
		{"Officer.InitCryptoOfficer", alters, officerAct(func(c *caller, o *Officer) error { return o.InitCryptoOfficer(c.ctx(), "p", freshPW) }),
			"IIIIII WWWW+W WWWWXW WWWWUW WWWWUW"},
		{"Officer.UnlockRole co", alters, officerAct(func(c *caller, o *Officer) error { return o.UnlockRole(c.ctx(), "p", object.RoleCryptoOfficer) }),
			"IIIIII WWWWPW WWWW+W WWWWUW WWWWUW"},
		{"Officer.UnlockRole po", alters, officerAct(func(c *caller, o *Officer) error { return o.UnlockRole(c.ctx(), "p", object.RolePartitionOfficer) }),
			"IIIIII WWWWPW WWWWPW WWWW+W WWWW+W"},
		{"Officer.ChangePassword", alters, officerAct(func(c *caller, o *Officer) error { return o.ChangePassword(c.ctx(), freshPW) }),
			"IIIIII WWWW+W WWWW+W WWWW+W WWWW+W"},
		{"Officer.InitAuditor", alters, officerAct(func(c *caller, o *Officer) error { return o.InitAuditor(c.ctx(), freshPW) }),
			"IIIIII WWWW+W WWWW+W WWWW+W WWWW+W"},
		{"Officer.SetForceLogin", alters, officerAct(func(c *caller, o *Officer) error { return o.SetForceLogin(c.ctx(), true) }),
			"IIIIII WWWW+W WWWW+W WWWW+W WWWW+W"},
		{"Officer.Backup", harmless, officerAct(func(c *caller, o *Officer) error { return o.Backup(c.ctx(), io.Discard) }),
			"IIIIII WWWW+W WWWW+W WWWW+W WWWW+W"},
		{"Officer.Restore", harmless, officerAct(func(c *caller, o *Officer) error {
			_, err := o.Restore(c.ctx(), bytes.NewReader([]byte("no backup")), false)
			return err
		}), "IIIIII WWWWDW WWWWDW WWWWDW WWWWDW"},
		{"Officer.ExportDomain", harmless, officerAct(func(c *caller, o *Officer) error { _, err := o.ExportDomain(c.ctx(), freshPW); return err }),
			"IIIIII WWWW+W WWWW+W WWWW+W WWWW+W"},
		{"Officer.ImportDomain", harmless, officerAct(func(c *caller, o *Officer) error { return o.ImportDomain(c.ctx(), []byte("no domain"), freshPW) }),
			"IIIIII WWWWDW WWWWDW WWWWDW WWWWDW"},
		{"Officer.AddPeer", alters, officerAct(func(c *caller, o *Officer) error { return o.AddPeer(c.ctx(), "other", newRogue(c.t).certificate) }),
			"IIIIII WWWW+W WWWW+W WWWW+W WWWW+W"},
		{"Officer.RemovePeer", alters, officerAct(func(c *caller, o *Officer) error { return o.RemovePeer(c.ctx(), "peer") }),
			"IIIIII WWWW+W WWWW+W WWWW+W WWWW+W"},
		{"Officer.RequestDomain", harmless, officerAct(func(c *caller, o *Officer) error { _, err := o.RequestDomain(c.ctx(), "peer"); return err }),
			"IIIIII WWWWXW WWWWXW WWWWXW WWWWXW"},
		{"Officer.ShareDomain", harmless, officerAct(func(c *caller, o *Officer) error {
			_, id, err := c.HSMIdentity()
			if err != nil {
				return err
			}
			_, err = o.ShareDomain(c.ctx(), "peer", c.peer.request(c.t, id))
			return err
		}), "IIIIII WWWW+W WWWW+W WWWW+W WWWW+W"},
		{"Officer.JoinDomain", harmless, officerAct(func(c *caller, o *Officer) error { return o.JoinDomain(c.ctx(), "peer", []byte("no domain")) }),
			"IIIIII WWWWDW WWWWDW WWWWDW WWWWDW"},
		{"Officer.Zeroize", alters, officerAct(func(c *caller, o *Officer) error { return o.Zeroize(c.ctx()) }),
			"IIIIII WWWW+W WWWW+W WWWW+W WWWW+W"},

		{"HSM.Initialized", harmless, func(c *caller) error {
			if !c.Initialized() {
				return object.Errorf(object.ErrNotInitialized, "")
			}
			return nil
		}, "IIIIII ++++++ ++++++ ++++++ ++++++"},
		{"HSM.Initialize", alters, func(c *caller) error {
			return c.Initialize(c.ctx(), c.who, InitOptions{Label: "again", Officer: freshPW})
		}, "++++++ XXXXXX XXXXXX XXXXXX XXXXXX"},
		{"HSM.Zeroize", alters, func(c *caller) error { return c.HSM.Zeroize(c.ctx(), c.who) },
			"IIIIII ++++++ ++++++ ++++++ ++++++"},
		{"HSM.AuthenticateOfficer", guesses, func(c *caller) error { _, err := c.AuthenticateOfficer(c.ctx(), c.who, c.pw); return err },
			"IIIIII WWWW+W WWWW+W WWWW+W WWWW+W"},
		{"HSM.AuthenticatePartitionOfficer", guesses, func(c *caller) error {
			_, err := c.AuthenticatePartitionOfficer(c.ctx(), c.who, "p", c.pw)
			return err
		}, "IIIIII PPPPPP PPPPPP W+WWWW KKKKKK"},
		{"HSM.AuthenticateAuditor", guesses, func(c *caller) error { _, err := c.AuthenticateAuditor(c.ctx(), c.who, c.pw); return err },
			"IIIIII PPPPPP PPPPPP WWWWW+ KKKKKK"},
		{"HSM.InitCryptoUser", guesses, func(c *caller) error { return c.InitCryptoUser(c.ctx(), c.who, "p", c.pw, freshPW) },
			"IIIIII PPPPPP WW+WWW WW+WWW KKKKKK"},
		{"HSM.ChangePassword", guesses, func(c *caller) error {
			return c.HSM.ChangePassword(c.ctx(), c.who, "p", c.guessed(), c.pw, freshPW)
		}, "IIIIUU PPPPUU WP++UU W+++UU KKKKUU"},
		{"HSM.Contents", guesses, func(c *caller) error {
			_, err := c.Contents(c.ctx(), c.who, "p", c.guessed(), c.pw)
			return err
		}, "IUIIUU PUPPUU WU++UU WU++UU KUKKUU"},
		{"HSM.Attach", harmless, func(c *caller) error { _, err := c.Attach(c.ctx(), c.world.fingerprint, home); return err },
			"IIIIII ++++++ ++++++ ++++++ ++++++"},
		{"HSM.Act", harmless, func(c *caller) error { return c.Act(c.ctx(), c.who, "user.add", "ops", nothing) },
			"++++++ ++++++ ++++++ ++++++ ++++++"},
		{"HSM.Deactivate", harmless, func(c *caller) error { return c.Deactivate(c.ctx(), c.who, "p") },
			"IIIIII ++++++ ++++++ ++++++ ++++++"},
		{"HSM.Info", harmless, func(c *caller) error { _, err := c.Info(); return err },
			"++++++ ++++++ ++++++ ++++++ ++++++"},
		{"HSM.Partitions", harmless, func(c *caller) error { _, err := c.Partitions(); return err },
			"IIIIII ++++++ ++++++ ++++++ ++++++"},
		{"HSM.Partition", harmless, func(c *caller) error { _, err := c.Partition("p"); return err },
			"IIIIII ++++++ ++++++ ++++++ ++++++"},
		{"HSM.PartitionPolicies", harmless, func(c *caller) error { _, err := c.PartitionPolicies("p"); return err },
			"IIIIII ++++++ ++++++ ++++++ ++++++"},
		{"HSM.Clients", harmless, func(c *caller) error { c.Clients(); return nil },
			"++++++ ++++++ ++++++ ++++++ ++++++"},
		{"HSM.Client", harmless, func(c *caller) error { _, err := c.Client("c"); return err },
			"IIIIII ++++++ ++++++ ++++++ ++++++"},
		{"HSM.DomainIdentity", harmless, func(c *caller) error { _, err := c.DomainIdentity(); return err },
			"IIIIII ++++++ ++++++ ++++++ ++++++"},
		{"HSM.HSMIdentity", harmless, func(c *caller) error { _, _, err := c.HSMIdentity(); return err },
			"IIIIII ++++++ ++++++ ++++++ ++++++"},
		{"HSM.Peers", harmless, func(c *caller) error { _, err := c.Peers(); return err },
			"IIIIII ++++++ ++++++ ++++++ ++++++"},
		{"HSM.Replication", harmless, func(c *caller) error { _, err := c.Replication("p"); return err },
			"IIIIII ++++++ ++++++ ++++++ ++++++"},
		{"HSM.Registrar", harmless, func(c *caller) error { c.Registrar(c.who); return nil },
			"++++++ ++++++ ++++++ ++++++ ++++++"},
	}
	// A registrar is the Security Officer, or anybody who administers the
	// appliance unless the Security Officer wants to be there.
	for _, act := range []struct {
		name string
		do   func(*caller, *Registrar) error
	}{
		{"RegisterClient", func(c *caller, r *Registrar) error { return r.RegisterClient(c.ctx(), c.registration()) }},
		{"DeleteClient", func(c *caller, r *Registrar) error {
			if err := r.RegisterClient(c.ctx(), c.registration()); err != nil {
				return err
			}
			return r.DeleteClient(c.ctx(), "other")
		}},
		{"AssignPartition", reassign},
		{"RevokePartition", reassign},
		{"SetAddressCheck", func(c *caller, r *Registrar) error { return r.SetAddressCheck(c.ctx(), true) }},
	} {
		rows = append(rows,
			matrixRow{"Officer." + act.name, harmless, officerAct(func(c *caller, o *Officer) error { return act.do(c, &o.Registrar) }),
				"IIIIII WWWW+W WWWW+W WWWW+W WWWW+W"},
			matrixRow{"Registrar." + act.name, harmless, func(c *caller) error { return act.do(c, c.Registrar(c.who)) },
				"IIIIII ++++++ ++++++ ++++++ ++++++"},
			matrixRow{"Registrar." + act.name + " forced", harmless, func(c *caller) error {
				must(c.t, c.force(true))
				err := act.do(c, c.Registrar(c.who))
				must(c.t, c.force(false))
				return err
			}, "IIIIII ...... ...... ...... ......"})
	}
	return rows
}

// reassign takes the partition from the client and gives it back.
func reassign(c *caller, r *Registrar) error {
	if err := r.RevokePartition(c.ctx(), "c", "p"); err != nil {
		return err
	}
	return r.AssignPartition(c.ctx(), "c", "p")
}

// force says whether the Security Officer, where there is one, wants to be there.
func (c *caller) force(on bool) error {
	if !c.Initialized() {
		return nil
	}
	if c.forcer == nil {
		c.forcer = c.world.officer()
	}
	return c.forcer.SetForceLogin(c.ctx(), on)
}

// policyRow is an act that a policy gates, in state whole: what comes of it for
// each role while the policy is set to the value.
type policyRow struct {
	policy object.PolicyID
	value  uint64
	name   string
	do     func(*caller) error
	want   string
}

func policyRows() []policyRow {
	sign := sessionAct(func(c *caller, s *Session) error {
		_, err := recorded(s).Sign(c.ctx(), newOp(), c.key, ecdsa256, make([]byte, 32))
		return err
	})
	generate := func(m object.Mechanism, public, private object.Template) func(*caller) error {
		return sessionAct(func(c *caller, s *Session) error {
			_, _, err := s.Generate(c.ctx(), newOp(), m, public, private)
			return err
		})
	}
	aesBits := func(n uint64) object.Template { return object.New(object.Number(object.AttrValueLen, n/8)) }
	free := object.New(object.Bool(object.AttrExtractable, true))
	unwrap := sessionAct(func(c *caller, s *Session) error {
		_, err := s.Unwrap(c.ctx(), newOp(), c.wrapping, kwp, c.wrapped, anAESKey)
		return err
	})
	decrypt := sessionAct(func(c *caller, s *Session) error {
		ciphertext := append([]byte{0}, make([]byte, 255)...)
		ciphertext[255] = 2
		_, err := recorded(s).Decrypt(c.ctx(), newOp(), c.rsa, object.Mechanism{Type: object.MechRSAPKCS, SessionKeyLen: 48}, ciphertext)
		return err
	})
	// Whoever could log in has logged out: is the key still in memory?
	kept := func(c *caller) error {
		if !usesKeys(c.role) {
			return object.Errorf(object.ErrUserType, "")
		}
		for _, s := range c.everybody {
			s.Close()
		}
		s, err := c.on("p", c.role, c.pw)
		if err != nil {
			return err
		}
		s.Close()
		if !s.p.active() {
			return object.Errorf(object.ErrPolicy, "")
		}
		return nil
	}
	reset := sessionAct(func(c *caller, s *Session) error {
		return s.ResetRole(c.ctx(), newOp(), object.RoleCryptoOfficer, coPassword)
	})
	return []policyRow{
		{object.PolicyUserSigns, 1, "Session.Sign", sign, ".U++.."},
		{object.PolicyUserSigns, 0, "Session.Sign", sign, ".U+O.."},
		{object.PolicySecretExtractable, 1, "Session.Generate (secret, extractable)", generate(aes, nil, aesBits(256).Merge(free)), ".U+U.."},
		{object.PolicySecretExtractable, 0, "Session.Generate (secret, extractable)", generate(aes, nil, aesBits(256).Merge(free)), ".UOU.."},
		{object.PolicyPrivateExtractable, 1, "Session.Generate (pair, extractable)", generate(ec, p256, free), ".U+U.."},
		{object.PolicyPrivateExtractable, 0, "Session.Generate (pair, extractable)", generate(ec, p256, free), ".UOU.."},
		{object.PolicyPKCS1Decrypt, 1, "Session.Decrypt (RSA PKCS #1 v1.5)", decrypt, ".U++.."},
		{object.PolicyPKCS1Decrypt, 0, "Session.Decrypt (RSA PKCS #1 v1.5)", decrypt, ".UOO.."},
		{object.PolicyMinRSA, 2048, "Session.Decrypt (RSA-2048)", decrypt, ".U++.."},
		{object.PolicyMinRSA, 3072, "Session.Decrypt (RSA-2048)", decrypt, ".UOO.."},
		{object.PolicyMinRSA, 3072, "Session.Generate (RSA-2048)", generate(rsaGen, rsa2048, nil), ".UOU.."},
		{object.PolicyMinEC, 256, "Session.Sign (P-256)", sign, ".U++.."},
		{object.PolicyMinEC, 384, "Session.Sign (P-256)", sign, ".UOO.."},
		{object.PolicyMinEC, 384, "Session.Generate (P-256)", generate(ec, p256, nil), ".UOU.."},
		{object.PolicyMinAES, 128, "Session.Generate (AES-128)", generate(aes, nil, aesBits(128)), ".U+U.."},
		{object.PolicyMinAES, 256, "Session.Generate (AES-128)", generate(aes, nil, aesBits(128)), ".UOU.."},
		{object.PolicyImport, 1, "Session.Unwrap", unwrap, ".U+U.."},
		{object.PolicyImport, 0, "Session.Unwrap", unwrap, ".UOU.."},
		{object.PolicyOfficerReset, 1, "Session.ResetRole co", reset, ".+UU.."},
		{object.PolicyActivation, 1, "the key outlives the last logout", kept, "UU++UU"},
		{object.PolicyActivation, 0, "the key outlives the last logout", kept, "UUOOUU"},
		{object.PolicyOfficerReset, 0, "Session.ResetRole co", reset, ".OUU.."},
	}
}
