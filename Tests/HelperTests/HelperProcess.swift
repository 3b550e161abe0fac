import Foundation
import SimulatedXen
import Synchronization

/// A libxl-save-helper and libxl's end of its protocol.
///
/// `serve` runs in one thread, once; `kill` may come from any.
final class HelperProcess: Sendable {
    /// An open file of this process and the number it shall have in the helper, 3 or more.
    struct Descriptor: Sendable {
        var here: OpenFile
        var there: Int32
    }

    struct Configuration: Sendable {
        static let stockHelper = "/usr/lib/xen-4.17/bin/libxl-save-helper"

        var executable = stockHelper
        /// LD_PRELOAD, first come first resolved.
        var preload: [String] = [Configuration.simulatedXen]
        /// The helper's whole environment, but for LD_PRELOAD.
        var environment: [String: String] = [:]
        var descriptors: [Descriptor] = []
        /// The longest silence between two messages, and the longest time from `complete` to the exit.
        var silenceLimit = Duration.seconds(20)

        init(domain: SimulatedDomain) { environment["SIMXEN_DOMAIN"] = domain.path }

        /// libsimulatedxen.so; SIMXEN_LIBRARY overrides.
        static var simulatedXen: String {
            ProcessInfo.processInfo.environment["SIMXEN_LIBRARY"] ?? built("libsimulatedxen.so")
        }

        /// What the build leaves beside the test bundle.
        static func built(_ name: String) -> String {
            let bundle = simxen_object_path().map { String(cString: $0) } ?? ""
            return URL(fileURLWithPath: bundle).deletingLastPathComponent().path + "/" + name
        }
    }

    enum StreamType: Int32 {
        case plain = 0
        case remus = 1
    }

    /// The helper's arguments, with descriptors by their numbers in the helper.
    enum Work {
        /// `flags`: bit 0 live, bit 1 debug.
        case save(stream: Int32, backChannel: Int32, domid: UInt32, flags: UInt32, type: StreamType)
        case restore(stream: Int32, backChannel: Int32, domid: UInt32, type: StreamType)

        /// Event channels are 1 (xenstore) and 2 (console), both of dom0.
        func arguments(callbackFlags: UInt32) -> [String] {
            switch self {
            case .save(let stream, let back, let domid, let flags, let type):
                [
                    "--save-domain", "\(stream)", "\(back)", "\(domid)", "\(flags)", "\(callbackFlags)",
                    "\(type.rawValue)",
                ]
            case .restore(let stream, let back, let domid, let type):
                [
                    "--restore-domain", "\(stream)", "\(back)", "\(domid)", "1", "0", "2", "0", "\(callbackFlags)",
                    "\(type.rawValue)",
                ]
            }
        }

        /// The callbacks that libxl offers for this work: bit n is message number n.
        func callbackFlags() -> UInt32 {
            switch self {
            case .save(_, _, _, _, .plain): 1 << 3 | 1 << 7
            case .save(_, _, _, _, .remus): 1 << 3 | 1 << 4 | 1 << 5 | 1 << 7
            case .restore(_, _, _, .plain): 1 << 8 | 1 << 9
            case .restore(_, _, _, .remus): 1 << 5 | 1 << 8 | 1 << 9
            }
        }
    }

    /// libxl's answers. A thrown error kills the helper and comes out of `serve`.
    struct Callbacks: Sendable {
        /// 1 is success.
        var suspend: @Sendable () throws -> Int32 = { 1 }
        var postcopy: @Sendable () throws -> Int32 = { 1 }
        /// Save: 1 goes on, 0 ends the save. Restore: 1 goes on, 2 fails over, 0 gives up.
        var checkpoint: @Sendable () throws -> Int32 = { 0 }
        /// 0 is success.
        var switchQemuLogDirty: @Sendable (Bool) throws -> Int32 = { _ in 0 }
        /// 0 is success; bit 0: no CPUID policy came, bit 1: no MSR policy came.
        var staticDataDone: @Sendable (UInt32) throws -> Int32 = { _ in 0 }
        /// Every message before it is answered.
        var observe: @Sendable (HelperMessage) -> Void = { _ in }
    }

    enum Exit: Equatable, Sendable {
        case status(Int32)
        case signal(Int32)
    }

    struct Outcome: Sendable {
        /// The return value of xc_domain_save or xc_domain_restore and its errno; nil if the helper died before.
        var result: Int32?
        var errorNumber: Int32 = 0
        var exit: Exit = .status(0)
        var storePage: UInt64 = 0
        var consolePage: UInt64 = 0
        var log: [HelperLogLine] = []
        var standardError = ""

        /// For a failed expectation's message.
        var story: String {
            "result \(result.map { "\($0)" } ?? "none") errno \(errorNumber) \(exit)\n"
                + log.suffix(20).map(\.description).joined(separator: "\n") + "\n" + standardError
        }
    }

    static let maximumLogLines = 10_000

    let identifier: pid_t
    private let toHelper: OpenFile
    private let fromHelper: OpenFile
    private let errors: OpenFile
    private let silenceLimit: Duration
    private let exit = Mutex<Exit?>(nil)

    init(_ configuration: Configuration, _ work: Work) throws {
        signal(SIGPIPE, SIG_IGN)
        // Sockets, because they are born close-on-exec: a pipe end leaked into another helper would hide an end of file.
        let (helperInput, toHelper) = try OpenFile.pair()
        let (fromHelper, helperOutput) = try OpenFile.pair()
        errors = try OpenFile("/tmp", O_RDWR | __O_TMPFILE | O_DIRECTORY)
        var environment = configuration.environment
        environment["LD_PRELOAD"] = configuration.preload.joined(separator: " ")
        let standard = [
            Descriptor(here: helperInput, there: 0), Descriptor(here: helperOutput, there: 1),
            Descriptor(here: errors, there: 2),
        ]
        identifier = try Self.spawn(
            configuration.executable, work.arguments(callbackFlags: work.callbackFlags()), environment,
            standard + configuration.descriptors)
        self.toHelper = toHelper
        self.fromHelper = fromHelper
        silenceLimit = configuration.silenceLimit
    }

    deinit {
        kill(SIGKILL)
        _ = try? reap(within: .seconds(5))
    }

    /// Sends a signal, if the helper has not been reaped.
    func kill(_ number: Int32) {
        exit.withLock { if $0 == nil { _ = Glibc.kill(identifier, number) } }
    }

    /// Answers until the helper has ended, and says how it ended.
    func serve(_ callbacks: Callbacks = Callbacks()) throws -> Outcome {
        var outcome = Outcome()
        do {
            while outcome.result == nil, let message = try receive() {
                callbacks.observe(message)
                let reply = try answer(message, callbacks, &outcome)
                if message.wantsReply { try send(reply) }
            }
            outcome.exit = try reap(within: silenceLimit)
        } catch {
            kill(SIGKILL)
            _ = try? reap(within: .seconds(5))
            throw error
        }
        outcome.standardError = standardError()
        return outcome
    }

    /// `serve` in a thread of its own.
    func start(_ callbacks: Callbacks = Callbacks()) -> Service { Service(self, callbacks) }

    final class Service: Sendable {
        let process: HelperProcess
        private let ending = Mutex<Result<Outcome, any Error>?>(nil)
        private let hasEnded = DispatchSemaphore(value: 0)

        fileprivate init(_ process: HelperProcess, _ callbacks: Callbacks) {
            self.process = process
            Thread.detachNewThread { [self] in
                let result = Result { try process.serve(callbacks) }
                ending.withLock { $0 = result }
                hasEnded.signal()
            }
        }

        /// Waits for the end; may be asked once.
        func outcome(within limit: Duration = .seconds(60)) throws -> Outcome {
            guard hasEnded.wait(timeout: .now() + limit / .seconds(1)) == .success else {
                process.kill(SIGKILL)
                throw HelperTestError.timedOut(waitingFor: "the helper's end")
            }
            return try ending.withLock { $0! }.get()
        }
    }

    // MARK: The protocol

    /// The next message, or nil when the helper has closed its end, be it in the middle of one.
    private func receive() throws -> HelperMessage? {
        let deadline = ContinuousClock.now + silenceLimit
        do {
            let length = try BoundedIO.read(2, from: fromHelper.descriptor, deadline: deadline)
            let count = Int(length[0]) | Int(length[1]) << 8
            return try HelperMessage(BoundedIO.read(count, from: fromHelper.descriptor, deadline: deadline))
        } catch HelperTestError.endOfStream {
            return nil
        }
    }

    /// A helper that was killed while it waited is found by `receive`, not here.
    private func send(_ reply: Int32) throws {
        let bytes = withUnsafeBytes(of: reply) { Array($0) }
        do {
            try BoundedIO.write(bytes, to: toHelper.descriptor, deadline: .now + silenceLimit)
        } catch let failure as SystemFailure where failure.errorNumber == EPIPE {
        }
    }

    private func answer(_ message: HelperMessage, _ callbacks: Callbacks, _ outcome: inout Outcome) throws -> Int32 {
        switch message {
        case .log(let line):
            if outcome.log.count < Self.maximumLogLines { outcome.log.append(line) }
            return 0
        case .progress: return 0
        case .suspend: return try callbacks.suspend()
        case .postcopy: return try callbacks.postcopy()
        case .checkpoint: return try callbacks.checkpoint()
        case .waitCheckpoint: throw HelperTestError.unexpectedMessage(6)
        case .switchQemuLogDirty(_, let isEnabled): return try callbacks.switchQemuLogDirty(isEnabled)
        case .staticDataDone(let missing): return try callbacks.staticDataDone(missing)
        case .restoreResults(let storePage, let consolePage):
            (outcome.storePage, outcome.consolePage) = (storePage, consolePage)
            return 0
        case .complete(let result, let errorNumber):
            (outcome.result, outcome.errorNumber) = (result, errorNumber)
            return 0
        }
    }

    // MARK: The process

    private func reap(within limit: Duration) throws -> Exit {
        let deadline = ContinuousClock.now + limit
        while true {
            let ended: Exit? = exit.withLock { exit in
                if exit != nil { return exit }
                var status: Int32 = 0
                guard waitpid(identifier, &status, WNOHANG) == identifier else { return nil }
                exit = status & 0x7f == 0 ? .status(status >> 8 & 0xff) : .signal(status & 0x7f)
                return exit
            }
            if let ended { return ended }
            guard ContinuousClock.now < deadline else {
                throw HelperTestError.timedOut(waitingFor: "the helper's exit")
            }
            usleep(500)
        }
    }

    private func standardError() -> String {
        var bytes = [UInt8](repeating: 0, count: 65_536)
        let count = pread(errors.descriptor, &bytes, bytes.count, 0)
        return String(decoding: bytes.prefix(max(count, 0)), as: UTF8.self)
    }

    static func spawn(
        _ executable: String, _ arguments: [String], _ environment: [String: String], _ descriptors: [Descriptor]
    ) throws -> pid_t {
        // Copies above every target number, so that no target overwrites a source that is still needed.
        let copies = try descriptors.map { descriptor in
            let copy = fcntl(descriptor.here.descriptor, F_DUPFD_CLOEXEC, 200)
            guard copy >= 0 else { throw SystemFailure("dup for \(descriptor.there)") }
            return OpenFile(adopting: copy)
        }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        for (copy, descriptor) in zip(copies, descriptors) {
            posix_spawn_file_actions_adddup2(&actions, copy.descriptor, descriptor.there)
        }
        // libxl gives its children the default action of SIGPIPE, whatever its own is.
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var defaults = sigset_t()
        sigemptyset(&defaults)
        sigaddset(&defaults, SIGPIPE)
        posix_spawnattr_setsigdefault(&attributes, &defaults)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGDEF))

        var words = ([executable] + arguments).map { strdup($0) } + [nil]
        var variables = environment.map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer { for string in words + variables { free(string) } }
        var identifier: pid_t = 0
        let error = withExtendedLifetime(copies) {
            posix_spawn(&identifier, executable, &actions, &attributes, &words, &variables)
        }
        guard error == 0 else { throw SystemFailure("posix_spawn \(executable)", errorNumber: error) }
        return identifier
    }
}
