# Moongate. The first two targets need Git, GNU make and Go, and nothing else;
# tests install what they need from Debian's packages.

GO      ?= go
FIPS140 ?= v1.0.0
VERSION ?= $(shell git describe --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  = -s -w -X main.version=$(VERSION)

.PHONY: run test build check bench prove guide fuzz soak clean

run: build ## HSM and gateway up, real traffic decrypted with an HSM-held key
	bin/moongate up

test: test-packages check build ## everything that must pass
	MOONGATE_BIN=$(CURDIR)/bin $(GO) test -race -timeout 14m ./...

build: ## bin/moongate, bin/moongate-hsm, bin/cmu: static, no cgo; the HSM on a frozen cryptographic module; bin/moongate-p11 where there is a C compiler
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/moongate ./cmd/cmu
	CGO_ENABLED=0 GOFIPS140=$(FIPS140) $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/moongate-hsm
	@if scripts/can-cgo; then set -x; CGO_ENABLED=1 $(GO) build -trimpath -tags netgo,osusergo -ldflags '$(LDFLAGS)' -o bin/ ./cmd/moongate-p11; \
	else rm -f bin/moongate-p11; echo "bin/moongate-p11 is not built, for there is no C compiler (gcc, libc6-dev): needed only for PKCS#11 modules of other makers"; fi

check: ## gofmt, vet, staticcheck
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "gofmt would change: $$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

bench: build ## the comparison table, beside Squid and nginx
	$(GO) run ./bench

prove: test-packages build ## search both processes' memory for the CA's key
	MOONGATE_BIN=$(CURDIR)/bin $(GO) test -count=1 -v -run '^TestProve' ./e2e/

guide: test-packages build ## the administrator's guide, performed step by step; pictures of each page in bin/guide
	MOONGATE_BIN=$(CURDIR)/bin MOONGATE_SCREENSHOTS=$(or $(MOONGATE_SCREENSHOTS),$(CURDIR)/bin/guide) $(GO) test -count=1 -v -run '^Test(Web)?Guide' ./e2e/
	@echo "Pictures of the web UI's steps and pages: $(or $(MOONGATE_SCREENSHOTS),$(CURDIR)/bin/guide)"

fuzz: ## each fuzz target for FUZZTIME (default 1m)
	@scripts/fuzz $(or $(FUZZTIME),1m)

soak: build ## SCHEDULES (default 1000) random fault schedules on HA groups under load; 200 kills of a gateway that changes its master key
	MOONGATE_SOAK=$(or $(SCHEDULES),1000) $(GO) test -count=1 -timeout 2h -v -run '^TestSoak$$' ./client/ha
	MOONGATE_SOAK=1 MOONGATE_BIN=$(CURDIR)/bin $(GO) test -count=1 -timeout 1h -v -run '^TestMasterKeySurvivesKill9$$' ./e2e

.PHONY: test-packages
test-packages:
	@scripts/test-packages

clean:
	rm -rf bin
