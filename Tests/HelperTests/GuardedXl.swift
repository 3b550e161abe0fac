import Foundation
import RomulusHost
import SimulatedXen
import Synchronization

/// `xl remus` as far as its guard is concerned with it, in a process that a test kills (Tests/GuardedXl): the guard is the real one,
/// forked from it.
final class GuardedXl: Sendable {
    struct Settings {
        var realtimePriority = 0
        var locksMemory = false
        /// What the guard's lines go to, in place of what `said` tells.
        var standardError: OpenFile?
        /// False for a run that is refused.
        var begins = true
    }

    private static let numbers = (link: Int32(24), lease: Int32(25), helper: Int32(26), mark: Int32(27))

    let identifier: pid_t
    private let domain: SimulatedDomain
    private let orders: OpenFile
    private let errors: OpenFile
    private let isThere = Mutex(true)

    /// - Parameters:
    ///   - link: which the guard holds, and nobody else should who is to see its end.
    ///   - helperEnd: it ends where the save helper has gone, which holds `mark` beside `xl`.
    init(
        of domain: SimulatedDomain, link: OpenFile, lease: SharedLease, helperEnd: OpenFile, mark: OpenFile,
        _ settings: Settings = Settings()
    ) throws {
        self.domain = domain
        let (input, orders) = try OpenFile.pair()
        self.orders = orders
        errors = try OpenFile("/tmp", O_RDWR | __O_TMPFILE | O_DIRECTORY | O_APPEND)
        let numbers = Self.numbers
        identifier = try HelperProcess.spawn(
            HelperProcess.Configuration.built("guarded-xl"),
            [
                "\(domain.domid)", "\(settings.realtimePriority)", settings.locksMemory ? "1" : "0",
                "\(numbers.link)", "\(numbers.lease)", "\(numbers.helper)", "\(numbers.mark)",
            ],
            ["SIMXEN_DOMAIN": domain.path, "LD_PRELOAD": HelperProcess.Configuration.simulatedXen],
            [
                .init(here: input, there: 0), .init(here: settings.standardError ?? errors, there: 2),
                .init(here: link, there: numbers.link),
                .init(here: try OpenFile(duplicating: lease.descriptor), there: numbers.lease),
                .init(here: helperEnd, there: numbers.helper), .init(here: mark, there: numbers.mark),
            ])
        let opened = domain.calls(SIMXEN_CALL_XENCALL_OPEN)
        if settings.begins {
            say("b")
            // It has opened what it needs then, and must not need to again.
            try wait(for: "the guard") { domain.calls(SIMXEN_CALL_XENCALL_OPEN) > opened }
        } else {
            try wait(for: "the guard") { guardian != nil }
        }
    }

    deinit { die() }

    private func say(_ word: Character) {
        var byte = word.asciiValue!
        _ = write(orders.descriptor, &byte, 1)
    }

    private func wait(for what: String, _ condition: () -> Bool) throws {
        let deadline = ContinuousClock.now + .seconds(20)
        while !condition() {
            guard ContinuousClock.now < deadline else { throw HelperTestError.timedOut(waitingFor: what) }
            usleep(1000)
        }
    }

    /// The guard's process, as long as it is there: no child of ours, nor of its `xl`.
    var guardian: pid_t? {
        let all = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return all.lazy.compactMap { pid_t($0) }.first { process in
            (try? String(contentsOfFile: "/proc/\(process)/comm", encoding: .utf8)) == "romulus-guard\n"
                && (try? String(contentsOfFile: "/proc/\(process)/environ", encoding: .utf8))?
                    .contains("SIMXEN_DOMAIN=\(domain.path)\0") == true
        }
    }

    /// SIGKILL; returns when it is no more.
    func die() {
        isThere.withLock { isThere in
            guard isThere else { return }
            isThere = false
            var status: Int32 = 0
            kill(identifier, SIGKILL)
            waitpid(identifier, &status, 0)
        }
    }

    /// Its run is over; returns when it has ended by itself.
    func end() {
        isThere.withLock { isThere in
            guard isThere else { return }
            isThere = false
            var status: Int32 = 0
            say("o")
            waitpid(identifier, &status, 0)
        }
    }

    func asksForItsGuard() { say("?") }

    /// What the guard, and its `xl`, have said so far.
    var said: String {
        var bytes = [UInt8](repeating: 0, count: 65_536)
        let count = pread(errors.descriptor, &bytes, bytes.count, 0)
        return String(decoding: bytes.prefix(max(count, 0)), as: UTF8.self)
    }
}
