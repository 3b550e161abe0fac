import CNetlink
import Glibc
import RomulusCore

/// Holds what a guest sends until its epoch is committed.
///
///     vif5.0 ── ingress: matchall ── redirect ──▶ rom5.0 (an IFB): plug ── when released ──▶ as if vif5.0 had sent it
///
/// A guest's output is *ingress* in dom0, where nothing can be queued; the IFB gives it a queue. The paper of 2008 has the
/// scheme in its section 4.5; Xen's own is tools/libs/light/libxl_netbuffer.c.
public final class NetworkBuffer: OutputBuffer {
    private struct Buffered {
        var vif: NetworkDevice
        var ifb: NetworkDevice
    }

    private let domainID: UInt32
    private let limitBytes: Int
    private let record: (_ deviceID: Int, _ ifb: String?) -> Void
    private let log: Log
    private let socket: RoutingSocket
    private let monitor: LinkMonitor?
    private var buffered: [Buffered] = []
    private var epochs = OutputEpochs()
    /// Of devices that have gone.
    private var earlierDrops = 0
    private var isOver = false

    /// - Parameters:
    ///   - limitBytes: what may wait for each network device; more is dropped.
    ///   - record: told which IFB buffers which device, and nil when none does any more.
    /// - Throws: with nothing changed.
    public init(
        domainID: UInt32, limitBytes: Int, record: @escaping (_ deviceID: Int, _ ifb: String?) -> Void, log: Log
    ) throws(NetworkBufferError) {
        self.domainID = domainID
        self.limitBytes = limitBytes
        self.record = record
        self.log = log
        socket = try RoutingSocket()
        monitor = LinkMonitor()
        do throws(NetworkBufferError) {
            for vif in try vifs() { try pickUp(vif) }
        } catch {
            for one in buffered { remove(one) }
            throw error
        }
    }

    public var vifCount: Int { buffered.count }

    // MARK: Network devices that come and go

    public var changeDescriptor: Int32 { monitor?.descriptor ?? -1 }

    public func linksChanged() {
        monitor?.drain()
        guard !isOver, let present = try? vifs() else { return }
        for one in buffered where !present.contains(one.vif) { letGo(one) }
        for vif in present where !buffered.contains(where: { $0.vif == vif }) {
            do throws(NetworkBufferError) {
                try pickUp(vif)
                log.note("\(vif.name) has come and is buffered from now on")
            } catch {
                log.error("\(vif.name) has come and its output is NOT held (\(error)): detach it, or end xl remus")
            }
        }
    }

    private func vifs() throws(NetworkBufferError) -> [NetworkDevice] {
        try socket.devices().filter { VifName(of: $0.name)?.domainID == domainID }
    }

    /// The plug before the redirect, and closed where the others are: not one packet slips through.
    private func pickUp(_ vif: NetworkDevice) throws(NetworkBufferError) {
        guard let name = VifName(of: vif.name) else { return }
        let ifb = try socket.addIFB(name.ifb)
        do throws(NetworkBufferError) {
            try socket.addPlug(ifb, limitBytes: limitBytes)
            if epochs.isHolding { try socket.command(.buffer, ifb) }
            try socket.redirect(vif, to: ifb)
        } catch {
            try? socket.delete(ifb)
            throw error
        }
        buffered.append(Buffered(vif: vif, ifb: ifb))
        if !name.isEmulated { record(name.deviceID, ifb.name) }
    }

    private func letGo(_ one: Buffered) {
        earlierDrops += socket.plugStatistics([one.ifb]).drops
        try? socket.delete(one.ifb)
        buffered.removeAll { $0.vif == one.vif }
        if let name = VifName(of: one.vif.name), !name.isEmulated { record(name.deviceID, nil) }
        log.note("\(one.vif.name) has gone and is let go")
    }

    private func remove(_ one: Buffered) {
        try? socket.removeRedirect(one.vif)
        try? socket.delete(one.ifb)
        if let name = VifName(of: one.vif.name), !name.isEmulated { record(name.deviceID, nil) }
    }

    // MARK: Epochs

    public func holdEpoch() throws(NetworkBufferError) {
        do throws(OutputEpochs.NotReleased) { try epochs.hold() } catch { throw .epochNotReleased }
        try commandAll(.buffer)
    }

    public func releaseEpoch() throws(NetworkBufferError) {
        epochs.release()
        try commandAll(.releaseOne)
    }

    /// A device may vanish at any time; then what it held is nobody's any more.
    private func commandAll(_ command: RoutingSocket.PlugCommand) throws(NetworkBufferError) {
        for one in buffered {
            do throws(NetworkBufferError) {
                try socket.command(command, one.ifb)
            } catch {
                if try vifs().contains(one.vif) { throw error }
            }
        }
    }

    public var heldAndDropped: (heldPackets: Int, heldBytes: Int, droppedPackets: Int) {
        let sum = socket.plugStatistics(buffered.map(\.ifb))
        return (sum.packets, sum.bytes, sum.drops + earlierDrops)
    }

    // MARK: The end

    public func releaseEverything() {
        guard !isOver else { return }
        isOver = true
        Self.drain(buffered, socket)
        for one in buffered { remove(one) }
        buffered = []
    }

    public func dropEverything() {
        guard !isOver else { return }
        isOver = true
        // The redirect stays, to a device that is gone: the kernel drops what comes.
        for one in buffered {
            try? socket.delete(one.ifb)
            if let name = VifName(of: one.vif.name), !name.isEmulated { record(name.deviceID, nil) }
        }
        buffered = []
    }

    /// Opens the plugs, takes the redirects away, and waits until the IFBs are empty, so that no packet is lost.
    private static func drain(_ all: [Buffered], _ socket: RoutingSocket) {
        for one in all { try? socket.command(.releaseIndefinite, one.ifb) }
        waitUntilEmpty(all, socket)
        for one in all { try? socket.removeRedirect(one.vif) }
        waitUntilEmpty(all, socket)
        // The IFB's own tasklet may still have the last ones in hand.
        if !all.isEmpty { usleep(5000) }
    }

    private static func waitUntilEmpty(_ all: [Buffered], _ socket: RoutingSocket) {
        let deadline = MonotonicTime.now + .nanoseconds(milliseconds: 500)
        while socket.plugStatistics(all.map(\.ifb)).packets > 0, MonotonicTime.now < deadline { usleep(1000) }
    }

    /// What a run that was killed has left behind: of this domain, which nobody else protects now, and of domains that
    /// are gone.
    public static func removeLeftovers(domainID: UInt32, log: Log) {
        guard let socket = try? RoutingSocket(), let devices = try? socket.devices() else { return }
        let vifs = devices.filter { VifName(of: $0.name) != nil }
        for ifb in devices {
            guard let name = VifName(ofIFB: ifb.name) else { continue }
            let vif = vifs.first { VifName(of: $0.name) == name }
            guard vif == nil || name.domainID == domainID else { continue }
            if let vif { drain([Buffered(vif: vif, ifb: ifb)], socket) }
            try? socket.delete(ifb)
            log.note("removed \(ifb.name), the network buffer that an earlier run had left behind")
        }
        for vif in vifs where VifName(of: vif.name)?.domainID == domainID && socket.isRedirected(vif) {
            try? socket.removeRedirect(vif)
            log.note("removed a redirect of \(vif.name) that an earlier run had left behind")
        }
    }
}

/// `vif5.0` and, for the network card that a device model emulates, `vif5.0-emu`; their IFBs are `rom5.0` and `rom5.0e`.
struct VifName: Equatable {
    var domainID: UInt32
    var deviceID: Int
    var isEmulated: Bool

    init?(of device: String) {
        let isEmulated = device.hasSuffix("-emu")
        self.init(numbers: isEmulated ? device.dropLast(4) : device[...], behind: "vif", isEmulated: isEmulated)
    }

    init?(ofIFB device: String) {
        let isEmulated = device.hasSuffix("e")
        self.init(numbers: isEmulated ? device.dropLast() : device[...], behind: "rom", isEmulated: isEmulated)
    }

    private init?(numbers text: Substring, behind prefix: String, isEmulated: Bool) {
        guard text.hasPrefix(prefix) else { return nil }
        let parts = text.dropFirst(prefix.count).split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 2, let domainID = UInt32(parts[0]), let deviceID = Int(parts[1]), deviceID >= 0 else {
            return nil
        }
        self.domainID = domainID
        self.deviceID = deviceID
        self.isEmulated = isEmulated
    }

    /// At most 15 characters, as the kernel wants it: domains have five digits, devices rarely more than one.
    var ifb: String { "rom\(domainID).\(deviceID)\(isEmulated ? "e" : "")" }
}
