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
        var name: VifName
        var ifb: NetworkDevice
    }

    private let domainID: UInt32
    private let limitBytes: Int
    private let store: NetbufStore
    private let script: NetbufScript?
    private let log: Log
    private let socket: RoutingSocket
    private let monitor: LinkMonitor?
    private var buffered: [Buffered] = []
    /// Not to be tried again: trying is itself a change of this host's devices.
    private var refused: Set<Int32> = []
    private var epochs = OutputEpochs()
    /// Of devices that have gone.
    private var earlierDrops = 0
    private var isOver = false

    /// - Parameters:
    ///   - limitBytes: what may wait for each network device; more is dropped.
    ///   - script: sets the devices up in our place; nil where we do it ourselves.
    /// - Throws: with nothing changed.
    public init(
        domainID: UInt32, limitBytes: Int, store: NetbufStore, script: String? = nil, log: Log
    ) throws(NetworkBufferError) {
        self.domainID = domainID
        self.limitBytes = limitBytes
        self.store = store
        self.script = script.map { NetbufScript(path: $0, store: store) }
        self.log = log
        socket = try RoutingSocket()
        monitor = LinkMonitor()
        for (vif, name) in try vifs() {
            if socket.isRedirected(vif) { try socket.removeRedirect(vif) }
            try pickUp(vif, name)
        }
    }

    deinit { releaseEverything() }

    /// The guest's network devices, by their numbers, whose output is held.
    public var deviceIDs: Set<Int> { Set(buffered.map(\.name.deviceID)) }

    // MARK: Network devices that come and go

    public var changeDescriptor: Int32 { monitor?.descriptor ?? -1 }

    public func linksChanged() {
        monitor?.drain()
        guard !isOver, let present = try? vifs() else { return }
        for one in buffered where !present.contains(where: { $0.vif == one.vif }) { letGo(one) }
        for (vif, name) in present where !buffered.contains(where: { $0.vif == vif }) && !refused.contains(vif.index) {
            do throws(NetworkBufferError) {
                try pickUp(vif, name)
                log.note("\(vif.name) has come and is buffered from now on")
            } catch {
                refused.insert(vif.index)
                log.error("\(vif.name) has come and its output is NOT held (\(error)): detach it, or end xl remus")
            }
        }
    }

    private func vifs() throws(NetworkBufferError) -> [(vif: NetworkDevice, name: VifName)] {
        let renamed = store.renamed()
        return try socket.devices().compactMap { device in
            if let deviceID = renamed[device.name] {
                return (device, VifName(domainID: domainID, deviceID: deviceID))
            }
            guard let name = VifName(of: device.name), name.domainID == domainID else { return nil }
            return (device, name)
        }
    }

    /// The plug before the redirect, and closed where the others are: not one packet slips through.
    private func pickUp(_ vif: NetworkDevice, _ name: VifName) throws(NetworkBufferError) {
        let ifb: NetworkDevice
        if let script { ifb = try device(named: try script.setUp(vif.name, name)) } else { ifb = try setUp(vif, name) }
        buffered.append(Buffered(vif: vif, name: name, ifb: ifb))
        if script != nil { try socket.command(epochs.isHolding ? .buffer : .releaseIndefinite, ifb) }
        if script == nil, !name.isEmulated { store.setIFB(name.deviceID, ifb.name) }
    }

    private func setUp(_ vif: NetworkDevice, _ name: VifName) throws(NetworkBufferError) -> NetworkDevice {
        let ifb = try socket.addIFB(name.ifb)
        do throws(NetworkBufferError) {
            try socket.addPlug(ifb, limitBytes: limitBytes)
            // What is sent before the first epoch's end is nobody's to hold.
            try socket.command(epochs.isHolding ? .buffer : .releaseIndefinite, ifb)
            try socket.redirect(vif, to: ifb)
            return ifb
        } catch {
            try? socket.delete(ifb)
            throw error
        }
    }

    private func device(named name: String) throws(NetworkBufferError) -> NetworkDevice {
        guard let device = try socket.devices().first(where: { $0.name == name }) else {
            throw .refused(what: "the buffer device", device: name, reason: "it is not there")
        }
        return device
    }

    private func letGo(_ one: Buffered) {
        earlierDrops += socket.plugStatistics([one.ifb]).drops
        takeDown(one, keepsRedirect: true)
        buffered.removeAll { $0.vif == one.vif }
        log.note("\(one.vif.name) has gone and is let go")
    }

    /// A redirect that is kept leads to a device that is gone: the kernel drops what comes.
    private func takeDown(_ one: Buffered, keepsRedirect: Bool) {
        if let script { return script.tearDown(one.vif.name, one.name, ifb: one.ifb.name) }
        if !keepsRedirect { removeRedirect(one.vif) }
        try? socket.delete(one.ifb)
        if !one.name.isEmulated { store.setIFB(one.name.deviceID, nil) }
    }

    private func removeRedirect(_ vif: NetworkDevice) {
        do throws(NetworkBufferError) {
            try socket.removeRedirect(vif)
        } catch {
            log.error("\(error): the guest has no network until it is gone; try tc qdisc del dev \(vif.name) ingress")
        }
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
                if try vifs().contains(where: { $0.vif == one.vif }) { throw error }
            }
        }
    }

    public var held: HeldOutput {
        let sum = socket.plugStatistics(buffered.map(\.ifb))
        return HeldOutput(packets: sum.packets, bytes: sum.bytes, droppedPackets: sum.drops + earlierDrops)
    }

    // MARK: The end

    public func releaseEverything() {
        guard !isOver else { return }
        isOver = true
        for one in buffered { try? socket.command(.releaseIndefinite, one.ifb) }
        socket.waitUntilEmpty(buffered.map(\.ifb))
        if script == nil { for one in buffered { removeRedirect(one.vif) } }
        socket.waitUntilEmpty(buffered.map(\.ifb))
        for one in buffered { takeDown(one, keepsRedirect: false) }
        buffered = []
    }

    public func dropEverything() {
        guard !isOver else { return }
        isOver = true
        // A script's teardown would let out what comes: it is left to the end of the domain.
        if script == nil { for one in buffered { takeDown(one, keepsRedirect: true) } }
        buffered = []
    }

    /// What a run that was killed has left behind: of this domain, which nobody else protects now, and of domains that
    /// are gone. What it held leaves now.
    public static func removeLeftovers(domainID: UInt32, log: Log) {
        guard let socket = try? RoutingSocket(), let devices = try? socket.devices() else { return }
        for ifb in devices {
            guard ifb.isIFB, let name = VifName(ofIFB: ifb.name) else { continue }
            let vif = devices.first { VifName(of: $0.name) == name }
            guard vif == nil || name.domainID == domainID else { continue }
            try? socket.command(.releaseIndefinite, ifb)
            socket.waitUntilEmpty([ifb])
            if let vif { try? socket.removeRedirect(vif) }
            socket.waitUntilEmpty([ifb])
            try? socket.delete(ifb)
            log.note("removed \(ifb.name), the network buffer that an earlier run had left behind")
        }
        for vif in devices where VifName(of: vif.name)?.domainID == domainID && socket.isRedirected(vif) {
            try? socket.removeRedirect(vif)
            log.note("removed a redirect of \(vif.name) that an earlier run had left behind")
        }
    }
}
