/* A PKCS#11 module around another one, which misbehaves as the file says that
 * FAULTS_FILE names: "hang", "crash", or "return N". No file is no fault. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "pkcs11go.h"

static CK_FUNCTION_LIST mine;
static CK_FUNCTION_LIST_PTR real;

static volatile int *volatile nowhere;

static CK_RV fault(void) {
	const char *path = getenv("FAULTS_FILE");
	FILE *f = path ? fopen(path, "r") : NULL;
	char word[32] = "";
	unsigned long value = 0;
	if (f == NULL) return CKR_OK;
	if (fscanf(f, "%31s %li", word, (long *)&value) < 1) word[0] = 0;
	fclose(f);
	if (strcmp(word, "hang") == 0) for (;;) sleep(1000);
	if (strcmp(word, "crash") == 0) *nowhere = 1;
	if (strcmp(word, "return") == 0) return value;
	return CKR_OK;
}

static CK_RV sign(CK_SESSION_HANDLE s, CK_BYTE_PTR d, CK_ULONG n, CK_BYTE_PTR out, CK_ULONG_PTR size) {
	CK_RV rv = fault();
	return rv == CKR_OK ? real->C_Sign(s, d, n, out, size) : rv;
}

static CK_RV decrypt(CK_SESSION_HANDLE s, CK_BYTE_PTR d, CK_ULONG n, CK_BYTE_PTR out, CK_ULONG_PTR size) {
	CK_RV rv = fault();
	return rv == CKR_OK ? real->C_Decrypt(s, d, n, out, size) : rv;
}

static CK_RV session_info(CK_SESSION_HANDLE s, CK_SESSION_INFO_PTR info) {
	CK_RV rv = fault();
	return rv == CKR_OK ? real->C_GetSessionInfo(s, info) : rv;
}

CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list) {
	void *module = dlopen(getenv("FAULTS_MODULE"), RTLD_NOW | RTLD_LOCAL);
	CK_C_GetFunctionList get = module ? (CK_C_GetFunctionList)dlsym(module, "C_GetFunctionList") : NULL;
	if (get == NULL) return CKR_GENERAL_ERROR;
	CK_RV rv = get(&real);
	if (rv != CKR_OK) return rv;
	mine = *real;
	mine.C_Sign = sign;
	mine.C_Decrypt = decrypt;
	mine.C_GetSessionInfo = session_info;
	*list = &mine;
	return CKR_OK;
}
