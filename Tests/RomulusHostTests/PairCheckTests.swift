import RomulusCore
import Testing

@testable import RomulusCheck
@testable import RomulusHost

@Suite struct PairCheckTests {
    private let guest = GuestFacts(
        name: "web", isParavirtual: false, memoryKiB: 512 << 10, processors: 2,
        networkDevices: [.init(number: 0, isElsewhere: false, bridge: "xenbr0", script: "vif-bridge")],
        deviceModel: "/usr/lib/qemu", firmware: ["/boot/hvmloader"])
    private let near = LinkSamples(roundTripMilliseconds: 2, aheadMilliseconds: 0)

    private func lines(
        here: HostReport = .good, there: HostReport = .good, link: LinkSamples? = nil,
        guest: PairCheck.Guest = .notNamed
    ) -> [CheckLine] {
        PairCheck(here: here, peer: "hostb", answer: .report(there, link ?? near, looks: looks(guest)), guest: guest)
            .lines()
    }

    /// A backup that has everything, and starts nothing by itself.
    private func looks(_ guest: PairCheck.Guest) -> [HostLook: Bool] {
        guard case .present(let facts) = guest else { return [:] }
        return Dictionary(uniqueKeysWithValues: facts.looks.map { ($0, $0.kind != .starts) })
    }

    /// The problem, which is the only one.
    private func problem(_ lines: [CheckLine], sourceLocation: SourceLocation = #_sourceLocation) -> String {
        let found = problems(lines)
        #expect(found.count == 1, "\(found)", sourceLocation: sourceLocation)
        return found.first ?? ""
    }

    private func problems(_ lines: [CheckLine]) -> [String] { lines.filter(\.isProblem).map(\.text) }

    private func problem(guest facts: GuestFacts, there: HostReport = .good) -> String {
        problem(lines(there: there, guest: .present(facts)))
    }

    private func with(_ change: (inout GuestFacts) -> Void) -> GuestFacts {
        var copy = guest
        change(&copy)
        return copy
    }

    @Test func aGoodPairHasNoProblemAndEveryLineSaysWhatWasLookedAt() {
        let all = lines(guest: .present(guest))
        #expect(problems(all).isEmpty)
        let text = all.map(\.description).joined(separator: "\n")
        for words in [
            "ok       this host: Romulus 1.2.3 is installed and active", "hostb: Romulus 1.2.3", "Xen 4.17",
            "module", "etcd answers", "round trip", "clocks agree", "arbiter is \"lease\" on both hosts",
            "web is a PVH or HVM guest", "no disks", "has the bridges", "dom0 on this host", "has 1 vif",
            "Xen on hostb has 4096 MiB free", "dom0 on hostb",
        ] {
            #expect(text.contains(words), "\(words) is not in:\n\(text)")
        }
    }

    @Test(arguments: [
        (HostReport.Activation.inactive, "run romulus-activate"), (.broken, "install Romulus again"),
        (.absent, "install Xen's tools"),
    ]) func romulusMustBeActiveOnBothHosts(activation: HostReport.Activation, remedy: String) {
        let bad = HostReport.good.with { $0.activation = activation }
        let here = problem(lines(here: bad))
        #expect(here.hasPrefix("this host: ") && here.contains(remedy))
        let there = problem(lines(there: bad))
        #expect(there.hasPrefix("hostb: ") && there.contains(remedy))
    }

    @Test func bothHostsNeedTheSameRomulusXenAndArbiter() {
        #expect(
            problem(lines(there: .good.with { $0.version = "1.3" }))
                == "Romulus is 1.2.3 on this host and 1.3 on hostb: install the same version on both")
        let newer = HostReport.Xen(version: "4.18.0", hasShadow: false, freeKiB: 4 << 20, takesFromDom0: false)
        #expect(
            problem(lines(there: .good.with { $0.xen = .known(newer) })).hasPrefix(
                "Xen is 4.17.4-pre on this host and 4.18.0"))
        let patched = HostReport.Xen(version: "4.17.9", hasShadow: false, freeKiB: 4 << 20, takesFromDom0: false)
        #expect(problems(lines(there: .good.with { $0.xen = .known(patched) })).isEmpty)
        #expect(
            problem(lines(there: .good.set({ $0.arbiter = .none }))).hasPrefix(
                "arbiter is \"lease\" on this host and \"none\" on hostb: set the same"))
    }

    @Test func oneOfTwoHostsThatFenceEachOtherGoesFirst() {
        func fenced(_ order: FenceOrder) -> HostReport {
            .good.set({
                $0.arbiter = .fence
                $0.fenceOrder = order
            })
        }
        #expect(problems(lines(here: fenced(.second), there: fenced(.first))).isEmpty)
        for order in FenceOrder.allCases {
            #expect(
                problem(lines(here: fenced(order), there: fenced(order))).hasPrefix(
                    "both hosts go \(order.rawValue) when they would turn each other off"))
        }
    }

    @Test func whatAHostSaysOfItselfIsPassedOnWithItsName() {
        #expect(
            problem(lines(there: .good.with { $0.moduleProblems = ["no ifb: install it"] }))
                == "hostb: no ifb: install it")
        #expect(problem(lines(there: .good.with { $0.xen = .unknown("no Xen: boot it") })) == "hostb: no Xen: boot it")
        #expect(problem(lines(here: .good.with { $0.settings = .unknown("line 3: bad") })) == "this host: line 3: bad")
        let failing = HostReport.good.set({ $0.arbiterTest = [.problem("etcd is away: start it")] })
        #expect(problem(lines(there: failing)) == "hostb: etcd is away: start it")
    }

    @Test func aHostThatCannotBeAskedIsOneProblemWithWhatToDo() {
        for (answer, words) in [
            (RemoteHost.Answer.withoutSSH, "install openssh-client"),
            (.unreachable("Connection refused"), "hostb is not reached by ssh without a question (Connection refused)"),
            (.withoutRomulus("command not found"), "install Romulus 1.2.3 there"),
            (.notUnderstood("exit status 3"), "run ssh hostb romulus check --report"),
        ] {
            #expect(
                problem(PairCheck(here: .good, peer: "hostb", answer: answer, guest: .present(guest)).lines()).contains(
                    words))
        }
        let silent = PairCheck(here: .good, peer: "hostb", answer: .report(.good, nil), guest: .notNamed)
        #expect(problem(silent.lines()).contains("no echo came back"))
    }

    @Test func aRoundTripThatIsTooLongForItsDetectionNamesOneThatIsEnough() {
        #expect(problems(lines(link: .init(roundTripMilliseconds: 125, aheadMilliseconds: 0))).isEmpty)
        let slow = problem(lines(link: .init(roundTripMilliseconds: 200, aheadMilliseconds: 0)))
        #expect(slow.contains("takes 200.0 ms") && slow.contains("set it to 1601 or more"))
    }

    @Test func clocksMayDifferByASecondAndByWhatTheRoundTripLeavesOpen() {
        #expect(problems(lines(link: .init(roundTripMilliseconds: 100, aheadMilliseconds: 1040))).isEmpty)
        #expect(
            problem(lines(link: .init(roundTripMilliseconds: 2, aheadMilliseconds: 5001))).hasPrefix(
                "hostb's clock is 5000.0 ms ahead"))
        #expect(
            problem(lines(link: .init(roundTripMilliseconds: 2, aheadMilliseconds: -5001))).hasPrefix(
                "hostb's clock is 5000.0 ms behind"))
    }

    @Test func aGuestThatCannotBeProtectedIsNamedWithTheReason() {
        #expect(problem(guest: with { $0.isParavirtual = true }).hasPrefix("web is a PV guest, which is refused"))
        #expect(
            problem(guest: with { $0.writableDisks = ["xvda", "xvdb"] }).hasPrefix(
                "web can write to xvda, xvdb, and disks are not replicated"))
        #expect(
            problem(guest: with { $0.passedThrough = ["03:00.0"] }).hasPrefix(
                "web has PCI devices of this host (03:00.0)"))
        #expect(problem(guest: with { $0.isStartedAtBoot = true }).hasPrefix("this host starts web when it boots"))
        #expect(problem(guest: with { $0.networkDevices = [] }).hasPrefix("web has no vif"))
        #expect(
            problem(guest: with { $0.networkDevices.append(.init(number: 1, isElsewhere: true)) }).hasPrefix(
                "web's vif 1 is in a driver domain"))
        #expect(problem(lines(guest: .absent("web"))).hasPrefix("no guest web runs on this host"))
        #expect(problem(lines(guest: .unknown("no Xen: boot it"))).contains("no Xen: boot it"))
    }

    @Test func aPVGuestIsWelcomeWhereXenHasShadowPaging() {
        let shadow = HostReport.Xen(version: "4.17.4-pre", hasShadow: true, freeKiB: 4 << 20, takesFromDom0: false)
        let report = HostReport.good.with { $0.xen = .known(shadow) }
        #expect(problems(lines(here: report, guest: .present(with { $0.isParavirtual = true }))).isEmpty)
    }

    @Test func whatTheGuestNeedsMustBeOnTheBackup() {
        func problems(without kind: HostLook.Kind, _ name: String, says answer: Bool? = false) -> [String] {
            var looks = looks(.present(guest))
            looks[HostLook(kind, name)] = answer
            let check = PairCheck(
                here: .good, peer: "hostb", answer: .report(.good, near, looks: looks), guest: .present(guest))
            return self.problems(check.lines())
        }
        #expect(
            problems(without: .network, "xenbr0") == [
                "hostb has no xenbr0, where web's vif 0 belongs: make that bridge there"
            ])
        #expect(
            problems(without: .program, "/etc/xen/scripts/vif-bridge") == [
                "hostb has no /etc/xen/scripts/vif-bridge, which connects web's vif 0: copy it there"
            ])
        #expect(problems(without: .program, "/usr/lib/qemu").first?.contains("web's device model") == true)
        #expect(problems(without: .file, "/boot/hvmloader").first?.contains("boots anew") == true)
        #expect(
            problems(without: .starts, "web", says: true).first?.hasPrefix("hostb starts web when it boots") == true)
        #expect(problems(without: .network, "xenbr0", says: nil).first?.hasPrefix("hostb does not say") == true)
    }

    @Test func aBridgeIsNeededOnlyByAScriptThatUsesOne() {
        func bridges(_ script: String, _ bridge: String) -> [String] {
            with {
                $0.networkDevices = [.init(number: 0, isElsewhere: false, bridge: bridge, script: script)]
            }.looks.filter { $0.kind == .network }.map(\.name)
        }
        #expect(bridges("/etc/xen/scripts/vif-bridge", "br.7") == ["br.7"])
        #expect(bridges("vif-route", "xenbr0").isEmpty)
        #expect(bridges("vif-openvswitch", "ovs0.7:8") == ["ovs0"])
    }

    @Test func anXlThatTakesFromDom0AndASharedConnectionAreProblems() {
        let taking = HostReport.good.with {
            $0.xen = .known(.init(version: "4.17", hasShadow: false, freeKiB: 4 << 20, takesFromDom0: true))
        }
        #expect(problem(lines(there: taking)).hasPrefix("hostb: xl takes memory from dom0 for guests (autoballoon)"))
        #expect(problems(lines(here: taking)).isEmpty)
        let shared = PairCheck(
            here: .good, peer: "hostb", answer: .report(.good, near), guest: .notNamed,
            sharedConnection: "/root/.ssh/cm")
        #expect(problem(shared.lines()).hasPrefix("ssh shares its connection to hostb with others"))
    }

    /// 512 MiB need 128 twice and 256 of this dom0.
    @Test func thePrimarysBuffersMustFitTooBesideWhatRunsAlready() {
        func here(_ mebibytes: UInt64, sessions: UInt64 = 0) -> HostReport {
            .good.with {
                $0.dom0AvailableKiB = mebibytes << 10
                $0.sessionsKiB = sessions << 10
            }
        }
        #expect(problems(lines(here: here(512), guest: .present(guest))).isEmpty)
        #expect(
            problem(lines(here: here(511), guest: .present(guest))).hasPrefix("dom0 on this host has 511 MiB free"))
        #expect(
            problem(lines(here: here(612, sessions: 101), guest: .present(guest))).hasPrefix(
                "dom0 on this host has 511 MiB free"))
        let small = here(300).set({ $0.stagingMiB = 16 })
        #expect(problems(lines(here: small, guest: .present(guest))).isEmpty)
    }

    /// 512 MiB need 512 + 2 + 4 + 4 of Xen, and three times 512 + 64, and 256, of dom0.
    @Test func theReplicaAndItsBuffersMustFit() {
        func there(xenMiB: UInt64, dom0MiB: UInt64, takesFromDom0: Bool = false) -> HostReport {
            .good.with {
                $0.xen = .known(
                    .init(version: "4.17", hasShadow: false, freeKiB: xenMiB << 10, takesFromDom0: takesFromDom0))
                $0.dom0AvailableKiB = dom0MiB << 10
            }
        }
        func isEnough(_ report: HostReport) -> Bool {
            !problems(lines(there: report, guest: .present(guest))).contains { $0.contains(" free, and ") }
        }
        #expect(isEnough(there(xenMiB: 522, dom0MiB: 1984)))
        #expect(
            problem(guest: guest, there: there(xenMiB: 521, dom0MiB: 1984)).hasPrefix("Xen on hostb has 521 MiB free"))
        #expect(
            problem(guest: guest, there: there(xenMiB: 522, dom0MiB: 1983)).hasPrefix("dom0 on hostb has 1983 MiB free")
        )
        #expect(isEnough(there(xenMiB: 500, dom0MiB: 2006, takesFromDom0: true)))
        #expect(!isEnough(there(xenMiB: 500, dom0MiB: 2005, takesFromDom0: true)))
        let small = there(xenMiB: 522, dom0MiB: 128).set({
            $0.epochLimitMiB = 32
            $0.pageCacheMiB = 32
        })
        #expect(isEnough(small))
        #expect(problem(guest: guest, there: .good.with { $0.dom0AvailableKiB = nil }).contains("look with free -m"))
    }
}
