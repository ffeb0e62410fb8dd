// Package world runs the product's programs as a test or a benchmark needs
// them: real processes on free ports of the loopback, over real TLS, in
// directories of their own, with passwords that were made up.
//
//	hsm, err := world.StartHSM(ctx, dir)
//	defer hsm.Close()
//	partition, err := hsm.NewPartition(ctx, "p1")
//	registered, err := hsm.Register(ctx, "gw1", partition)
//	c, err := client.Dial(ctx, registered.Config(client.RoleCryptoOfficer))
//
// Nothing here needs package testing; T makes of it what a test wants: an end
// with the test, and logs when it fails.
//
// The programs are those in the directory $MOONGATE_BIN, or are built when it
// is not set.
package world
