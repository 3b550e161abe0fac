# Everything a person or a CI does with Romulus. `make help` lists it.

PREFIX   ?= /usr/local
LIBDIR   ?= $(PREFIX)/lib/romulus
SBINDIR  ?= $(PREFIX)/sbin
CONFDIR  ?= /etc/xen
DESTDIR  ?=
HOST     ?= a
TESTS    ?=
# Seconds for all scenarios together.
LAB_BUDGET ?= 4500

BUILD    := build
SHIPPED  := .build/shipped/release/libromulus.so
SOURCES  := $(shell find Sources Package.swift -type f)
LAB      := Tests/Lab/lab
PACKAGES := $(shell sed 's/\#.*//' Tests/packages.txt Tests/Lab/packages.txt 2>/dev/null)

# Only where something is missing, so that a machine without a network can still build.
INSTALL_PACKAGES = missing=$$(dpkg-query -W -f '$${Status} $${Package}\n' $(1) 2>&1 | \
	sed -n -e 's/^dpkg-query: no packages found matching //p' -e '/^install ok installed/!s/.* //p' | sort -u); \
	if [ -n "$$missing" ]; then echo "installing: $$missing"; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; fi

.PHONY: all help packages install check unit lab-test demo lab-up lab-down \
	lab-ssh measure bench schedule-picture traces fmt fmt-check clean

all: $(BUILD)/libromulus.so.0 $(BUILD)/romulus  ## build the shared object and the command

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

packages:  ## install the Debian packages that building and testing need
	@$(call INSTALL_PACKAGES,$(PACKAGES))

$(BUILD)/libromulus.so.0: $(SOURCES)
	ROMULUS_SHIPPED=1 swift build -c release --product romulus --scratch-path .build/shipped
	mkdir -p $(BUILD)
	strip -o $@ $(SHIPPED)

$(BUILD)/romulus: $(SOURCES)
	swift build -c release --product romulus-cli --static-swift-stdlib --scratch-path .build/command
	mkdir -p $(BUILD)
	strip -o $@ .build/command/release/romulus-cli

install: all  ## install under $(DESTDIR)$(PREFIX); romulus-activate then puts it to use
	install -d $(DESTDIR)$(LIBDIR) $(DESTDIR)$(SBINDIR) $(DESTDIR)$(CONFDIR)
	install -m 644 $(BUILD)/libromulus.so.0 $(DESTDIR)$(LIBDIR)/
	install -m 755 $(BUILD)/romulus $(DESTDIR)$(SBINDIR)/
	for program in xl romulus-save-helper; do \
	    sed 's|@LIBDIR@|$(LIBDIR)|' Sources/Launcher/$$program >$(DESTDIR)$(LIBDIR)/$$program && \
	    chmod 755 $(DESTDIR)$(LIBDIR)/$$program || exit 1; done
	for program in romulus-activate romulus-deactivate; do \
	    sed 's|@LIBDIR@|$(LIBDIR)|' Sources/Launcher/$$program >$(DESTDIR)$(SBINDIR)/$$program && \
	    chmod 755 $(DESTDIR)$(SBINDIR)/$$program || exit 1; done
	[ -e $(DESTDIR)$(CONFDIR)/romulus.conf ] || \
	    install -m 644 Sources/Launcher/romulus.conf $(DESTDIR)$(CONFDIR)/romulus.conf

check: packages unit lab-test  ## install what is needed and run every test

unit: fmt-check all  ## the tests that need no hypervisor
	Tests/artifact $(BUILD)/libromulus.so.0
	swift build --build-tests
	swift test

lab-test:  ## the scenarios on two Xen hosts; TESTS="42 70" chooses
	$(LAB) test --budget $(LAB_BUDGET) $(TESTS)

demo: packages all  ## protect a guest on two emulated Xen hosts, pull the plug, see it go on
	$(LAB) demo

lab-up: packages all  ## boot two Xen hosts with Romulus and leave them running
	$(LAB) up

lab-ssh:  ## a shell on a host of the lab: make lab-ssh HOST=a
	@$(LAB) ssh $(HOST)

lab-down:  ## end the lab
	$(LAB) down

bench: packages  ## what the page engine's parts do on this machine, against memcpy and compressors
	swift build -c release --product romulus-bench --scratch-path .build/command
	.build/command/release/romulus-bench

schedule-picture: packages  ## draw docs/scheduling.svg: what the adaptive schedule does with loads that change
	swift build -c release --product romulus-bench --scratch-path .build/command
	.build/command/release/romulus-bench schedule >docs/scheduling.svg

traces: packages all  ## record what a guest writes in the lab, for make bench
	swift build -c release --product romulus-bench --scratch-path .build/command
	$(LAB) record

measure: packages all  ## stock Remus and Romulus in one run in the lab, as ratios
	$(LAB) measure

fmt:  ## lay the Swift code out
	swift format --in-place --recursive Sources Tests Package.swift

fmt-check:
	swift format lint --strict --recursive Sources Tests Package.swift

clean:  ## remove what was built
	rm -rf $(BUILD) .build
