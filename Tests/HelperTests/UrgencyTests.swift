import Foundation
import RomulusCore
import RomulusHost
import SimulatedXen
import Testing

extension ProtectionTests {
    /// What a lease hangs on has its memory and its turn.
    @Suite struct UrgencyTests {
        let folder: TemporaryFolder

        init() throws { folder = try TemporaryFolder() }

        /// Threads of a process with SCHED_RR of that priority, by their names.
        private func inAHurry(_ process: String, priority: Int32) throws -> [String] {
            let threads = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(process)/task")
            return threads.compactMap { thread in
                var parameters = sched_param()
                guard let id = pid_t(thread), sched_getscheduler(id) & 0xFFFF == SCHED_RR,
                    sched_getparam(id, &parameters) == 0, parameters.sched_priority == priority
                else { return nil }
                return try? String(contentsOfFile: "/proc/\(process)/task/\(thread)/comm", encoding: .utf8)
                    .trimmingCharacters(in: .newlines)
            }.sorted()
        }

        private func lockedKilobytes(_ process: String) throws -> Int {
            let status = try String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8)
            let line = status.split(separator: "\n").first { $0.hasPrefix("VmLck:") }
            return line.flatMap { Int($0.split(whereSeparator: { !$0.isNumber }).joined()) } ?? 0
        }

        private func end(_ guest: ProtectedGuest) throws {
            guest.interrupt()
            let ending = try guest.end()
            #expect(ending.primary.end.cause == .stopRequested(signalName: "SIGINT"))
        }

        @Test(.enabled(if: geteuid() == 0)) func theRelaysAndTheGuardComeFirstAndNobodyElse() throws {
            let guest = try ProtectedGuest(in: folder, .init(realtimePriority: 7))
            try guest.waitForCommits(3)
            #expect(try inAHurry("self", priority: 7) == ["romulus-relay", "romulus-relay"])
            #expect(try inAHurry("\(try #require(guest.xl.guardian))", priority: 7) == ["romulus-guard"])
            #expect(try inAHurry("\(guest.saver.process.identifier)", priority: 7) == [])
            try end(guest)
        }

        @Test(.enabled(if: geteuid() == 0)) func theMemoryOfHelperAndGuardIsLocked() throws {
            let guest = try ProtectedGuest(in: folder, .init(locksMemory: true))
            try guest.waitForCommits(3)
            #expect(try lockedKilobytes("\(guest.saver.process.identifier)") > 1000)
            #expect(try lockedKilobytes("\(try #require(guest.xl.guardian))") > 1000)
            try end(guest)
        }

        @Test func withoutAWishNothingIsChanged() throws {
            let guest = try ProtectedGuest(in: folder)
            try guest.waitForCommits(3)
            for process in [guest.saver.process.identifier, try #require(guest.xl.guardian)] {
                #expect(try lockedKilobytes("\(process)") == 0)
                #expect(try inAHurry("\(process)", priority: 7) == [])
            }
            try end(guest)
        }

        /// What cannot be had is one line, and no more.
        @Test func aPriorityThatDoesNotExistIsALine() {
            let log = Log(guest: "test")
            Urgency.raise(to: 100, log)
            #expect(log.newestEvent?.text.contains("real-time priority 100") == true)
        }
    }
}
