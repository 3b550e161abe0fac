import Foundation
import RomulusHost
import SimulatedXen
import Testing

extension ProtectionTests {
    /// The guard as a process among others.
    @Suite struct GuardProcessTests {
        let folder: TemporaryFolder
        private let source: SimulatedDomain
        private let lease: SharedLease
        private let farEnd: OpenFile
        private let link: Shared<OpenFile?>

        init() throws {
            folder = try TemporaryFolder()
            source = try SimulatedDomain(guestAt: folder("source"), domid: 7, pageCount: 512, seed: 3)
            lease = try SharedLease()
            let (near, far) = try OpenFile.pair()
            link = Shared(near)
            farEnd = far
        }

        private func xl(_ settings: GuardedXl.Settings = .init()) throws -> GuardedXl {
            let (helperEnd, mark) = try OpenFile.pair()
            let near = try #require(link.value)
            link.set(nil)
            return try GuardedXl(
                of: source, link: near, lease: lease, helperEnd: helperEnd, mark: mark, settings)
        }

        private func awaitLinkEnd() throws {
            do {
                _ = try BoundedIO.read(1, from: farEnd.descriptor, deadline: .now + .seconds(20))
            } catch HelperTestError.endOfStream {}
        }

        private func text(_ name: String, of process: pid_t) throws -> String {
            try String(contentsOfFile: "/proc/\(process)/\(name)", encoding: .utf8)
        }

        /// libxl reaps what it can see, and complains of it; and who kills `xl remus` by its command means `xl`.
        @Test func nobodyTakesItForXlOrAChildOfXls() throws {
            let xl = try xl()
            let guardian = try #require(xl.guardian)
            let threads = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(xl.identifier)/task")
            let children = try threads.map { try text("task/\($0)/children", of: xl.identifier) }.joined()
            #expect(children.isEmpty, "\(children)")
            #expect(getsid(guardian) == guardian)
            #expect(try text("cmdline", of: guardian).trimmingCharacters(in: ["\0"]) == "romulus-guard 7")
            xl.end()
            try awaitLinkEnd()
        }

        /// Nobody but `xl` holds the end whose closing is its death, and the guard none of what is `xl`'s.
        @Test func itHoldsTheLinkAndXlsEndAndNothingOfXls() throws {
            let xl = try xl(.init(begins: false))
            let guardian = try #require(xl.guardian)
            let held = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(guardian)/fd").compactMap {
                Int($0)
            }
            #expect(
                held.filter { $0 > 2 }.count == 3, "the link, its end of the socket to xl, the helper's mark: \(held)")
            for name in try FileManager.default.contentsOfDirectory(atPath: "/proc/\(xl.identifier)/fd")
            where Int(name)! > 2 {
                let flags = try text("fdinfo/\(name)", of: xl.identifier).split(separator: "\n").first {
                    $0.hasPrefix("flags:")
                }
                let bits = Int(flags?.split(separator: "\t").last ?? "", radix: 8) ?? 0
                #expect(bits & Int(O_CLOEXEC) != 0, "descriptor \(name) goes to what xl starts")
            }
            xl.end()
        }

        @Test func aRunThatIsRefusedLeavesNothingBehind() throws {
            let xl = try xl(.init(begins: false))
            lease.replicaBecomesPossible()
            xl.die()
            try awaitLinkEnd()
            #expect(xl.said == "" && source.isRunning)
        }

        /// Ctrl-C goes to the whole group of a terminal's processes, and a service's stop to all that it has.
        @Test func whatATerminalOrAServiceSendsIsNothingToIt() throws {
            let xl = try xl()
            let guardian = try #require(xl.guardian)
            for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGPIPE] { kill(guardian, signal) }
            usleep(100_000)
            lease.replicaBecomesPossible()
            xl.die()
            try awaitLinkEnd()
            #expect(source.calls(SIMXEN_CALL_PAUSE) == 1 && !source.isRunning)
            #expect(xl.said.contains("the copy here is paused"))
        }

        @Test func xlSeesWhetherItIsThere() throws {
            let xl = try xl()
            xl.asksForItsGuard()
            try wait(for: "guarded\n", from: xl)
            kill(try #require(xl.guardian), SIGKILL)
            for _ in 0..<2000 where xl.guardian != nil { usleep(5000) }
            xl.asksForItsGuard()
            try wait(for: "guarded\nunguarded\n", from: xl)
        }

        private func wait(for said: String, from xl: GuardedXl) throws {
            for _ in 0..<2000 where xl.said != said { usleep(5000) }
            #expect(xl.said == said)
        }

        /// After it the pause of a lease that ended at the same moment has come, and can be undone.
        @Test func whoEndsTheRunWaitsForAGuardThatIsFreezingTheGuest() throws {
            let xl = try xl()
            lease.replicaBecomesPossible()
            for _ in 0..<20 {
                lease.set(.now)
                usleep(useconds_t.random(in: 0...30_000))
                lease.set(nil)
                lease.awaitGuard()
                let freezes = lease.takeFreezes()
                #expect(source.isPaused == (freezes == 1))
                if freezes > 0 { #expect(source.unpause()) }
                usleep(1000)
                #expect(!source.isPaused)
            }
            xl.end()
            try awaitLinkEnd()
        }
    }
}
