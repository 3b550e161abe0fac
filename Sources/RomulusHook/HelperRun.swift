import CLinux
import CXen
import Glibc
import RomulusCore
import RomulusHost

/// One Remus save in libxl-save-helper: wraps libxl's callbacks around either engine to time the pause, begin
/// each epoch when the relay says so, and begin no epoch before the last one is committed.
enum HelperRun {
    /// The save under way. libxl-save-helper does one and exits, and its callbacks carry no context of ours.
    nonisolated(unsafe) private static var current: HelperRun.Save?

    static func save(
        _ interface: OpaquePointer?, _ stream: Int32, _ domain: UInt32, _ flags: UInt32,
        _ callbacks: UnsafeMutablePointer<save_callbacks>?, _ streamType: xc_stream_type_t, _ receive: Int32
    ) -> Int32 {
        guard streamType == XC_STREAM_REMUS, let callbacks, let session = HelperSession(interface, domain) else {
            return Stock.domainSave(interface, stream, domain, flags, callbacks, streamType, receive)
        }
        let log = session.log
        guard let plugins = loadPlugins(domain, log) else {
            session.finish()
            errno = EINVAL
            return -1
        }
        // libxl has put SIGPIPE back to its default; a link that ends must be an error here, not a death.
        signal(SIGPIPE, SIG_IGN)
        let save = Save(session: session, stock: callbacks.pointee, plugins: plugins.steps)
        current = save
        callbacks.pointee.suspend = { HelperRun.current!.suspend($0) }
        callbacks.pointee.postcopy = { HelperRun.current!.postcopy($0) }
        callbacks.pointee.checkpoint = { HelperRun.current!.checkpoint($0) }

        let code: Int32
        switch engine(session.settings.engine, interface, domain, flags, callbacks.pointee, log) {
        case .native:
            code = native(
                interface,
                .init(stream: stream, domain: domain, stagingBytes: session.settings.stagingBytes), callbacks.pointee,
                session)
        case .stock:
            do throws(SystemError) {
                save.watch = try StockWatch(interface, domain)
                code = Stock.domainSave(interface, stream, domain, flags, callbacks, streamType, receive)
            } catch {
                log.error("the guest cannot be saved: \(error)")
                errno = error.code
                code = -1
            }
        }
        let savedErrno = errno
        plugins.all.close()
        session.finish()
        errno = savedErrno
        return code
    }

    /// - Returns: nil when one of them cannot be used, which `xl` could not see: it has loaded them before.
    private static func loadPlugins(_ domain: UInt32, _ log: Log) -> (all: PluginSet, steps: StepPlugins)? {
        let value = romulus_launch_value(ROMULUS_PLUGINS).map { String(cString: $0) }
        do {
            let all = try PluginSet(
                PluginSettings(environmentValue: value), PluginHost(.saveHelper, domain: domain), log: log)
            return (all, try StepPlugins(all))
        } catch {
            log.error("\(error)")
            return nil
        }
    }

    /// The one that was asked for, or the stock one with the reason why not.
    private static func engine(
        _ wanted: Engine, _ interface: OpaquePointer?, _ domain: UInt32, _ flags: UInt32, _ callbacks: save_callbacks,
        _ log: Log
    ) -> Engine {
        guard wanted == .native else { return .stock }
        if let objection = NativeSave.objection(interface, domain, flags: flags, callbacks) {
            log.note("the stock engine copies the guest's pages, because \(objection)")
            return .stock
        }
        return .native
    }

    /// As xc_domain_save returns: 0 or less, and below it errno says more.
    private static func native(
        _ interface: OpaquePointer?, _ configuration: NativeSave.Configuration, _ callbacks: save_callbacks,
        _ session: HelperSession
    ) -> Int32 {
        do throws(SystemError) {
            return try NativeSave(interface, configuration, callbacks) { current?.copying = $0 }.run()
        } catch {
            // One that was told to stop is broken off wherever it is, and that is no failure.
            if !session.isStopped() { session.log.error("the guest cannot be saved: \(error)") }
            errno = error.code
            return -1
        }
    }

    /// The three callbacks, in libxl's terms: above zero is success.
    final class Save {
        private let session: HelperSession
        private let stock: save_callbacks
        private let plugins: StepPlugins
        private var epoch = Epoch.none
        private var requested = MonotonicTime.now
        private var suspended = MonotonicTime.now
        var copying: EpochTimes.Copying?
        /// Beside the stock engine.
        var watch: StockWatch?

        init(session: HelperSession, stock: save_callbacks, plugins: StepPlugins) {
            self.session = session
            self.stock = stock
            self.plugins = plugins
        }

        func suspend(_ data: UnsafeMutableRawPointer?) -> Int32 {
            if session.isStopped() || !session.awaitUnpaused() { return 0 }
            if session.leaveToWhoeverSuspended() { return 0 }
            requested = .now
            epoch = epoch.next
            session.report(.suspending(epoch, helper: getpid()))
            let result = plugins.take(.suspend, epoch) { suspendGuest(data) }
            suspended = .now
            guard result > 0 else { return result }
            return watches { watch throws(SystemError) in try watch.guestIsSuspended() } ? result : 0
        }

        /// libxl gives up on a guest that is paused before it has suspended. It is asked again when it runs.
        private func suspendGuest(_ data: UnsafeMutableRawPointer?) -> Int32 {
            while true {
                // Also where the guest never took the order, and libxl has withdrawn it, this says that all went well.
                let result = stock.suspend?(data) ?? 0
                guard session.standing == .paused else { return result }
                guard session.awaitUnpaused() else { return 0 }
                guard session.suspendsLate() else { continue }
                // What it has followed was ours, or else somebody else's. libxl's own resuming also tells xenstore of it.
                if result > 0 {
                    if session.leaveToWhoeverSuspended() { return 0 }
                } else if stock.postcopy?(data) ?? 0 <= 0 {
                    return 0
                }
            }
        }

        func postcopy(_ data: UnsafeMutableRawPointer?) -> Int32 {
            let saved = MonotonicTime.now
            // As late as can be: netback has then taken up what the suspended guest had left in its ring. sch_plug counts
            // without a lock (net/sched/sch_plug.c), so a packet that comes at the same moment as BUFFER could be counted
            // twice, and another one let out too early.
            session.report(.suspended(epoch))
            guard watches({ watch throws(SystemError) in try watch.logWasRead() }) else { return 0 }
            guard session.awaitOutputHeld(of: epoch) else { return 0 }
            let outputHeld = MonotonicTime.now
            let result = plugins.take(.postcopy, epoch) { stock.postcopy?(data) ?? 0 }
            session.report(
                .resumed(
                    EpochTimes(
                        epoch: epoch, requested: requested, suspended: suspended, copying: copying, saved: saved,
                        outputHeld: outputHeld, resumed: .now)))
            return result
        }

        func checkpoint(_ data: UnsafeMutableRawPointer?) -> Int32 {
            if session.isStopped() { return 0 }
            // With the last bytes of the first epoch, which libxl writes now, the backup has a replica that can run.
            session.replicaBecomesPossible()
            let result = plugins.take(.checkpoint, epoch) { stock.checkpoint?(data) ?? 0 }
            guard watches({ watch throws(SystemError) in try watch.sweep() }) else { return 0 }
            guard result > 0, session.awaitCommit(of: epoch) else { return 0 }
            return session.awaitNextStart() ? result : 0
        }

        private func watches(_ step: (StockWatch) throws(SystemError) -> Void) -> Bool {
            guard let watch else { return true }
            do throws(SystemError) {
                try step(watch)
                return true
            } catch {
                session.log.error("the guest cannot be saved: \(error)")
                return false
            }
        }
    }
}
