import CLinux
import Glibc

/// One thread that runs one function and is joined. Never started at load: libxl forks.
public final class Thread: @unchecked Sendable {
    // Written by `init` before the thread exists and by `join` on the thread that owns this object.
    private var handle = pthread_t()
    private var isJoined = false

    private final class Start {
        let name: String
        let body: @Sendable () -> Void
        init(name: String, body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }
    }

    /// Signals stay with the process's own threads.
    public init(name: String, _ body: @escaping @Sendable () -> Void) throws(SystemError) {
        let start = Unmanaged.passRetained(Start(name: name, body: body))
        var everySignal = sigset_t()
        var earlier = sigset_t()
        sigfillset(&everySignal)
        pthread_sigmask(SIG_SETMASK, &everySignal, &earlier)
        let code = pthread_create(
            &handle, nil,
            { argument in
                let start = Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue()
                romulus_name_thread(start.name)
                start.body()
                return nil
            }, start.toOpaque())
        pthread_sigmask(SIG_SETMASK, &earlier, nil)
        guard code == 0 else {
            start.release()
            throw SystemError("pthread_create", code: code)
        }
    }

    public func join() {
        guard !isJoined else { return }
        pthread_join(handle, nil)
        isJoined = true
    }

    /// One that does not end in time is left behind.
    public func join(milliseconds: Int) {
        guard !isJoined else { return }
        isJoined = romulus_join(handle, Int32(clamping: milliseconds))
    }
}
