//go:build cgo

package cryptoki

/*
#cgo linux LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>

// loadable returns why a module cannot be loaded; NULL where it can. The handle
// stays open: the module is used next.
static const char *loadable(const char *path) {
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (handle == NULL) return dlerror();
	if (dlsym(handle, "C_GetFunctionList") == NULL) return "it has no C_GetFunctionList: it is no PKCS#11 module";
	return NULL;
}
*/
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"unsafe"

	"github.com/miekg/pkcs11"

	"moongate/internal/p11"
)

// module is a loaded module.
type module struct{ ctx *pkcs11.Ctx }

// Load loads the module at the path into this process and initializes it for
// use by many threads (CKF_OS_LOCKING_OK). A module is loaded once: the process
// ends with it.
func Load(path string) (p11.Module, error) {
	// dlerror is the thread's.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	if why := C.loadable(name); why != nil {
		return nil, fmt.Errorf("loading the module %s: %s", path, C.GoString(why))
	}
	ctx := pkcs11.New(path)
	if ctx == nil {
		return nil, fmt.Errorf("loading the module %s: it cannot be loaded", path)
	}
	if err := answer(ctx.Initialize()); err != nil {
		return nil, fmt.Errorf("loading the module %s: C_Initialize answered %w; look into its own configuration and log", path, err)
	}
	return &module{ctx}, nil
}

// answer makes a CKR of the binding's error.
func answer(err error) error {
	if code, is := errors.AsType[pkcs11.Error](err); is {
		return p11.CKR(code)
	}
	return err
}

func (m *module) Info() (string, error) {
	info, err := m.ctx.GetInfo()
	if err != nil {
		return "", answer(err)
	}
	return fmt.Sprintf("%s %s %d.%d", padless(info.ManufacturerID), padless(info.LibraryDescription),
		info.LibraryVersion.Major, info.LibraryVersion.Minor), nil
}

// padless takes the padding of fixed fields off, which is spaces, or with some
// modules zeros.
func padless(s string) string { return strings.TrimRight(s, " \x00") }

func (m *module) Slots() ([]p11.Slot, error) {
	ids, err := m.ctx.GetSlotList(true)
	if err != nil {
		return nil, answer(err)
	}
	var list []p11.Slot
	for _, id := range ids {
		token, err := m.ctx.GetTokenInfo(id)
		if err != nil {
			continue // it was taken out, or cannot be read
		}
		slot := p11.Slot{
			ID: id, Label: padless(token.Label), Serial: padless(token.SerialNumber), Model: padless(token.Model),
			Manufacturer: padless(token.ManufacturerID), Flags: token.Flags, MaxSessions: token.MaxSessionCount,
		}
		if info, err := m.ctx.GetSlotInfo(id); err == nil {
			slot.Description = padless(info.SlotDescription)
		}
		list = append(list, slot)
	}
	return list, nil
}

func (m *module) Mechanisms(slot uint) ([]uint, error) {
	list, err := m.ctx.GetMechanismList(slot)
	if err != nil {
		return nil, answer(err)
	}
	var types []uint
	for _, mechanism := range list {
		types = append(types, mechanism.Mechanism)
	}
	return types, nil
}

func (m *module) OpenSession(slot uint, write bool) (uint, error) {
	flags := uint(pkcs11.CKF_SERIAL_SESSION)
	if write {
		flags |= pkcs11.CKF_RW_SESSION
	}
	session, err := m.ctx.OpenSession(slot, flags)
	return uint(session), answer(err)
}

func (m *module) CloseSession(session uint) error {
	return answer(m.ctx.CloseSession(pkcs11.SessionHandle(session)))
}

func (m *module) CloseAllSessions(slot uint) error { return answer(m.ctx.CloseAllSessions(slot)) }

func (m *module) LoggedIn(session uint) (bool, error) {
	info, err := m.ctx.GetSessionInfo(pkcs11.SessionHandle(session))
	if err != nil {
		return false, answer(err)
	}
	return info.State == pkcs11.CKS_RO_USER_FUNCTIONS || info.State == pkcs11.CKS_RW_USER_FUNCTIONS, nil
}

func (m *module) Login(session, user uint, pin []byte) error {
	return answer(m.ctx.Login(pkcs11.SessionHandle(session), user, string(pin)))
}

func (m *module) Random(session uint, n int) ([]byte, error) {
	out, err := m.ctx.GenerateRandom(pkcs11.SessionHandle(session), n)
	return out, answer(err)
}

func (m *module) Finalize() error { return answer(m.ctx.Finalize()) }
