// Package client uses one network HSM from a Go program: a Client keeps a
// connection to it, a Key of it is a crypto.Signer (RSA, ECDSA, Ed25519), and
// for RSA a crypto.Decrypter. Encryption, MACs, derivation, wrapping, imports
// and the partition's administration are methods of Client.
//
//	config, err := client.LoadConfig("client.toml")
//	config.Role, config.Password = client.RoleCryptoUser, askPassword
//	c, err := client.Dial(ctx, config)
//	key, err := c.FindKeyByLabel(ctx, "web")
//	listener := tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{{
//		Certificate: chain, PrivateKey: key}}})
//
// A Client is for many goroutines at once and shares one connection among
// them. When the connection breaks it makes another one by itself, logs in
// again, and repeats the calls that are safe to repeat; a Key stays valid
// throughout, since it names its object by UUID. A password that was refused
// is never tried again by itself (it would lock the role): see Relogin.
//
// With Config.CheckpointFile a Client remembers the HSM's audit log, and refuses
// an HSM whose past was changed.
//
// Calls wait for a connection, and for their answer, until their context is
// done, or Config.CallTimeout long where it has no deadline. crypto.Signer has
// no context: bind one with Key.WithContext. Who has another HSM to ask has
// calls fail at once (WithoutWaiting), is told of changes (Watch), and learns
// from NotSent and OutcomeUnknownError what may have been done. Package
// client/ha does all that: it makes one of several HSMs that clone their objects
// to each other, which a Client only carries (OfferClone, CloneOut, CloneIn).
//
// Errors that this package makes are *Error: what was being done (Stage), why
// it did not work, and what to do about it. A refusal by the HSM is an
// *HSMError within, which errors.Is compares by its code:
//
//	errors.Is(err, &client.HSMError{Code: client.ErrPINLocked})
//
// The protocol is docs/wire.md.
package client
