import CXen
import Glibc
import RomulusCore

/// What the stock engine does not see of a guest's memory, put into the log of writes before that engine reads it.
public final class StockWatch {
    private let interface: OpaquePointer?
    private let domain: UInt32
    private let log: DirtyLog
    /// Nil for a PV guest: Xen logs what comes into being there.
    private let memory: GuestMemory?
    private var isFirstEpoch = true

    /// Before the engine begins.
    public init(_ interface: OpaquePointer?, _ domain: UInt32) throws(SystemError) {
        self.interface = interface
        self.domain = domain
        let pages = try GuestMemory.frameCount(interface, domain)
        log = try DirtyLog(interface, domain, pageCount: pages)
        guard let info = xc_dominfo_t(of: domain, interface), info.hvm != 0 else {
            memory = nil
            return
        }
        let memory = try GuestMemory(interface, domain, pageCount: pages)
        try memory.findAll()
        memory.allIsSent()
        self.memory = memory
    }

    /// It stands still, and the engine has not read the log yet.
    public func guestIsSuspended() throws(SystemError) {
        if !isFirstEpoch { try log.expectUntouched() }
        guard let memory else { return }
        guard try GuestMemory.frameCount(interface, domain) <= log.pageCount else {
            throw SystemError(
                "the guest's memory has grown beyond what the stock engine looks at; start xl remus again", code: E2BIG)
        }
        memory.beginRound(isGuestSuspended: true)
        try memory.findUnlogged()
        var scan = memory.unsentScan
        while let page = scan.next() { try LogWitness.mark(page, interface, domain) }
        memory.allIsSent()
        try memory.endRound()
    }

    /// The engine has read the log, and the guest still stands still.
    public func logWasRead() throws(SystemError) {
        isFirstEpoch = false
        try log.plantWitness()
    }

    /// While the guest runs.
    public func sweep() throws(SystemError) { try memory?.sweep(parts: 64) }
}
