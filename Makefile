# Everything a person or a CI does with Romulus. `make help` lists it.

DESTDIR       ?=
PREFIX        ?= /usr/local
SBINDIR       ?= $(PREFIX)/sbin
LIBDIR        ?= $(PREFIX)/lib
INCLUDEDIR    ?= $(PREFIX)/include
DATADIR       ?= $(PREFIX)/share
MANDIR        ?= $(DATADIR)/man
DOCDIR        ?= $(DATADIR)/doc/romulus
COMPLETIONDIR ?= $(DATADIR)/bash-completion/completions
PKGCONFIGDIR  ?= $(LIBDIR)/pkgconfig
UNITDIR       ?= $(PREFIX)/lib/systemd/system
# What is read is /etc/xen/romulus.conf, always: another place is for those who put it there later.
SYSCONFDIR    ?= /etc
# Whose diversion romulus-activate makes where there is dpkg.
DIVERSION     ?= --local
# For `swift build': -j 1, say.
SWIFTFLAGS    ?=

HOST     ?= a
TESTS    ?=
# Seconds for all scenarios together: what a busy machine may need.
LAB_BUDGET ?= 3600
# Of the soak: for how long steps are begun, and what repeats one of them.
MINUTES  ?= 5
SEED     ?=
STEP     ?=

BUILD    := build
VERSION  := $(shell sed -n '1s/.*(\(.*\)).*/\1/p' debian/changelog)
SHIPPED  := .build/shipped/release/libromulus.so
# With the folders, so that what has gone counts too.
SOURCES  := $(shell find Sources) Package.swift Makefile
EXAMPLES := $(filter-out %.service,$(wildcard xl-config-examples/*.*))
# Nothing that is shipped tells where it was built, and building needs no network.
SWIFT_BUILD = swift build -c release --disable-automatic-resolution --disable-local-rpath $(SWIFTFLAGS) \
	-Xswiftc -file-prefix-map -Xswiftc $(CURDIR)=. -Xcc -ffile-prefix-map=$(CURDIR)=. -Xlinker --build-id=none
LAB      := Tests/Lab/lab
PACKAGES := $(shell sed 's/\#.*//' Tests/packages.txt Tests/Lab/packages.txt 2>/dev/null)

# Only where something is missing, so that a machine without a network can still build.
INSTALL_PACKAGES = missing=$$(dpkg-query -W -f '$${Status} $${Package}\n' $(1) 2>&1 | \
	sed -n -e 's/^dpkg-query: no packages found matching //p' -e '/^install ok installed/!s/.* //p' | sort -u); \
	if [ -n "$$missing" ]; then echo "installing: $$missing"; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; fi

# Into the target, without symbols. .swift_modhash is a hash of the compiler's input, paths included, that only
# incremental builds read; without the section strip would forget which pages are to be read-only.
define STRIP
mkdir -p $(@D)
head -c $$(($$(objdump -h -j .swift_modhash $(1) | awk '$$2 == ".swift_modhash" { print "0x" $$3 }'))) /dev/zero >$@.zeros
objcopy --strip-all --update-section .swift_modhash=$@.zeros $(1) $@
rm $@.zeros
endef

# What is there of $(2) goes to the directory $(3), with mode $(1).
PUT = $(if $(strip $(2)),install -d $(DESTDIR)$(3) && install -m $(1) $(2) $(DESTDIR)$(3)/)

# The same for texts that name directories; an ending .in goes.
define FILL
install -d $(DESTDIR)$(3)
for file in $(2); do \
    target=$(DESTDIR)$(3)/$$(basename $$file .in) && \
    sed -e 's|@LIBDIR@|$(LIBDIR)/romulus|' -e 's|@DIVERSION@|$(DIVERSION)|' -e 's|@VERSION@|$(VERSION)|' \
        -e 's|@PREFIX@|$(PREFIX)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' $$file >$$target && \
    chmod $(1) $$target || exit 1; done
endef

.PHONY: all resolve help packages install install-library install-tools install-dev deb deb-reproducible check unit replay \
	patched-xen lab-images lab-test lab-soak demo lab-up lab-down lab-ssh measure bench schedule-picture traces fmt fmt-check clean

all: $(BUILD)/libromulus.so.0 $(BUILD)/romulus  ## build the shared object and the command

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 18

packages:  ## install the Debian packages that building and testing need
	@$(call INSTALL_PACKAGES,$(PACKAGES))

# The one step of building that may need a network: what Package.swift names.
.build/%/resolved: Package.swift
	swift package resolve --scratch-path .build/$*
	touch $@

resolve: .build/shipped/resolved .build/command/resolved  ## fetch dependencies: from here on nothing needs a network

$(BUILD)/libromulus.so.0: $(SOURCES) | .build/shipped/resolved
	ROMULUS_SHIPPED=1 $(SWIFT_BUILD) --product romulus --scratch-path .build/shipped
	$(call STRIP,$(SHIPPED))

$(BUILD)/romulus: $(SOURCES) | .build/command/resolved
	$(SWIFT_BUILD) --product romulus-cli --static-swift-stdlib --scratch-path .build/command
	$(call STRIP,.build/command/release/romulus-cli)

$(BUILD)/completion/romulus: $(BUILD)/romulus
	mkdir -p $(@D)
	$< --generate-completion-script bash >$@.new
	sed -i '1{/^#!/d}' $@.new
	mv $@.new $@

install: install-library install-tools install-dev  ## install under $(DESTDIR)$(PREFIX); then: romulus-activate

install-library: $(BUILD)/libromulus.so.0  ## what a host needs that protects guests or receives them
	$(call PUT,644,$<,$(LIBDIR)/romulus)
	$(call FILL,755,Sources/Launcher/xl Sources/Launcher/romulus-save-helper,$(LIBDIR)/romulus)
	$(call FILL,755,Sources/Launcher/romulus-activate Sources/Launcher/romulus-deactivate,$(SBINDIR))
	[ -e $(DESTDIR)$(SYSCONFDIR)/xen/romulus.conf ] || \
	    { $(call PUT,640,Sources/Launcher/romulus.conf,$(SYSCONFDIR)/xen); }
	$(call PUT,644,$(wildcard xl-config-examples/*.service),$(UNITDIR))
	$(call PUT,644,$(wildcard docs/man/*.5),$(MANDIR)/man5)
	$(call PUT,644,$(wildcard docs/man/romulus-*.8),$(MANDIR)/man8)
	ln -sf romulus-activate.8 $(DESTDIR)$(MANDIR)/man8/romulus-deactivate.8
	$(call PUT,644,README.md $(wildcard docs/*.md docs/*.svg),$(DOCDIR))
	$(call PUT,644,$(EXAMPLES),$(DOCDIR)/examples)

install-tools: $(BUILD)/romulus $(BUILD)/completion/romulus  ## the command
	$(call PUT,755,$<,$(SBINDIR))
	$(call PUT,644,$(BUILD)/completion/romulus,$(COMPLETIONDIR))
	$(call PUT,644,docs/man/romulus.8,$(MANDIR)/man8)

install-dev:  ## what a plugin is written with
	$(call PUT,644,$(wildcard Sources/RomulusPlugin/include/romulus.h),$(INCLUDEDIR))
	$(call FILL,644,Sources/Launcher/romulus.pc.in,$(PKGCONFIGDIR))
	$(call PUT,644,$(wildcard docs/man/*.3),$(MANDIR)/man3)
	$(call PUT,644,$(wildcard xl-config-examples/plugins/*),$(DOCDIR)/examples/plugins)

deb: $(BUILD)/deb/made  ## Debian packages, in build/deb

$(BUILD)/deb/made: $(BUILD)/libromulus.so.0 $(BUILD)/romulus $(BUILD)/completion/romulus README.md \
		$(shell find debian docs xl-config-examples)
	rm -rf $(@D) && mkdir -p $(@D)
	DEB_DESTINATION=$(CURDIR)/$(@D) DEB_BUILD_OPTIONS=noautodbgsym dpkg-buildpackage --build=binary --no-sign --post-clean \
	    --buildinfo-option=-u$(@D) --buildinfo-file=$(@D)/romulus.buildinfo \
	    --changes-option=-u$(@D) --changes-file=$(@D)/romulus.changes
	touch $@

deb-reproducible: deb  ## build the packages once more, elsewhere, and compare: every byte is the same
	Tests/reproducible $(BUILD)/deb

# Making images and compiling Xen's programs keeps one processor busy, and a release build hardly more than another.
check: packages  ## install what is needed and run every test
	$(MAKE) -j 2 lab-images all
	$(MAKE) unit lab-test

unit: fmt-check all deb  ## the tests that need no hypervisor
	Tests/artifact $(BUILD)/libromulus.so.0
	Tests/packages $(BUILD)/deb
	Tests/documents
	Tests/arrows
	Tests/Lab/selftest.py
	Tests/Lab/soak_selftest.py
	Tests/units $(BUILD)/units.log

replay:  ## the story of a scenario of the simulation's; SCENARIO="5 lease linkCut@300", as a failing test prints it
	ROMULUS_SCENARIO="$(SCENARIO)" swift test --filter theScenarioThatIsAskedFor

patched-xen: packages  ## patches/ applied to the Xens they are for, xl and its save helper compiled with them
	$(LAB) patched

lab-images: patched-xen  ## what the lab boots from
	$(LAB) images

lab-test:  ## the scenarios on two Xen hosts, and a few steps of soak; TESTS="42 70" chooses, without a soak
	$(LAB) test --budget $(LAB_BUDGET) $(if $(TESTS),$(TESTS),--soak 2.5)

lab-soak: packages all  ## random faults, each followed by the promises' checks; MINUTES=60, SEED=123 STEP=17
	$(LAB) soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(STEP),--step $(STEP))

demo: packages all  ## protect a guest on two emulated Xen hosts, pull the plug, see it go on
	$(LAB) demo

lab-up: packages all  ## boot two Xen hosts with Romulus and leave them running
	$(LAB) up

lab-ssh:  ## a shell on a host of the lab: make lab-ssh HOST=a
	@$(LAB) ssh $(HOST)

lab-down:  ## end the lab
	$(LAB) down

bench: packages .build/command/resolved  ## what the page engine's parts do on this machine, against memcpy and compressors
	$(SWIFT_BUILD) --product romulus-bench --scratch-path .build/command
	.build/command/release/romulus-bench

schedule-picture: packages .build/command/resolved  ## draw docs/scheduling.svg: what the adaptive schedule does with loads that change
	$(SWIFT_BUILD) --product romulus-bench --scratch-path .build/command
	.build/command/release/romulus-bench schedule >docs/scheduling.svg

traces: packages all  ## record what a guest writes in the lab, for make bench
	$(SWIFT_BUILD) --product romulus-bench --scratch-path .build/command
	$(LAB) record

measure: packages all  ## stock Remus and Romulus in one run in the lab, as ratios
	$(LAB) measure

fmt:  ## lay the Swift code out
	swift format --in-place --recursive Sources Tests Package.swift

fmt-check:
	swift format lint --strict --recursive Sources Tests Package.swift

clean:  ## remove what was built
	rm -rf $(BUILD) .build
