import RomulusCore
import Synchronization

/// Looks for network devices of the guest that are attached to a driver domain: nothing of this host's tells of them, so
/// xenstore is asked from time to time, by a thread that may wait for it.
public final class DriverDomainWatch: Sendable {
    private let wakeUp: Descriptor
    private let isClosed: IsClosed
    private let thread: Thread

    private final class IsClosed: Sendable {
        let flag = Atomic(false)
    }

    /// - Parameter elsewhere: the numbers of the guest's devices whose other ends are not on this host.
    public init(
        intervalNanoseconds: Int64 = 5_000_000_000, log: Log, elsewhere: @escaping @Sendable () -> Set<Int>
    ) throws(SystemError) {
        wakeUp = try Descriptor.event()
        isClosed = IsClosed()
        let (raw, isClosed) = (wakeUp.raw, isClosed)
        thread = try Thread(name: "romulus-drivers") {
            var known: Set<Int> = []
            var polls = PollSet()
            while !isClosed.flag.load(ordering: .acquiring) {
                let now = elsewhere()
                for device in now.subtracting(known).sorted() {
                    log.error(
                        "vif \(device) has come and its output is NOT held, because it goes to a driver domain: detach it,"
                            + " or end xl remus")
                }
                known = now
                polls.reset()
                polls.add(raw, reading: true)
                polls.wait(until: .now + intervalNanoseconds)
            }
        }
    }

    public func close() {
        isClosed.flag.store(true, ordering: .releasing)
        wakeUp.signal()
        thread.join()
    }

    deinit { close() }
}
