import Glibc
import RomulusCore
import Synchronization

/// Keeps a file of metrics up to date while a run lasts, from a thread of its own: a slow disk is not to hold a checkpoint up.
public final class MetricsFile {
    private static let intervalNanoseconds: Int64 = 5_000_000_000

    private let path: String
    private let wakeUp: Descriptor
    private let shared: Shared
    private let thread: Thread

    private final class Shared: Sendable {
        let newest = Mutex<(@Sendable () -> String)?>(nil)
        let isClosed = Atomic(false)
    }

    /// - Parameter directory: node_exporter's `--collector.textfile.directory`.
    public init(directory: String, guest: String, log: Log) throws(SystemError) {
        Self.remove(directory: directory, guest: guest)
        path = Self.path(directory, guest)
        wakeUp = try Descriptor.event()
        let (path, raw, shared) = (path, wakeUp.raw, Shared())
        self.shared = shared
        thread = try Thread(name: "romulus-metrics") {
            var hasComplained = false
            var polls = PollSet()
            while true {
                let isLast = shared.isClosed.load(ordering: .acquiring)
                let newest = shared.newest.withLock { $0 }
                if let newest, !FileContents.replace(with: Array(newest().utf8), at: path, mode: 0o644),
                    !hasComplained
                {
                    hasComplained = true
                    log.warning(
                        "metrics cannot be written to \(path) (\(String(cString: strerror(errno)))): make the directory"
                            + " that metrics_directory in /etc/xen/romulus.conf names; protection goes on without")
                }
                if isLast {
                    unlink(path)
                    return
                }
                polls.reset()
                polls.add(raw, reading: true)
                polls.wait(until: .now + MetricsFile.intervalNanoseconds)
            }
        }
    }

    /// What a run left behind that was killed, or whose host died, would go on claiming that the guest is protected.
    static func remove(directory: String, guest: String) { unlink(path(directory, guest)) }

    private static func path(_ directory: String, _ guest: String) -> String {
        "\(directory)/romulus-\(RunLock.fileName(guest)).prom"
    }

    /// - Parameter text: made when it is written, by the thread that writes it.
    func update(_ text: @escaping @Sendable () -> String) { shared.newest.withLock { $0 = text } }

    /// The file is gone.
    func close() {
        shared.isClosed.store(true, ordering: .releasing)
        wakeUp.signal()
        thread.join(milliseconds: 1000)
    }
}
