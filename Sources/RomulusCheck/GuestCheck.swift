import RomulusCore
import RomulusHost

/// Whether a guest of this host can be protected, and whether the backup has room for its replica.
struct GuestCheck {
    let peer: String
    let here: HostReport
    /// Nil where the backup has not said.
    let there: HostReport?
    /// What the backup has said of what the guest needs there.
    let looks: [HostLook: Bool]

    func lines(_ guest: PairCheck.Guest) -> [CheckLine] {
        switch guest {
        case .notNamed: [.ok("no guest was named: --guest NAME looks at its type, disks, devices and memory too")]
        case .absent(let name):
            [.problem("no guest \(name) runs on this host: see xl list, or check from the host where it runs")]
        case .unknown(let reason): [.problem("\(PairCheck.hereName): the guest cannot be looked at: \(reason)")]
        case .present(let facts):
            [type(facts), disks(facts), devices(facts)] + passedThrough(facts) + atBoot(facts) + needs(facts)
                + memory(facts)
        }
    }

    private func type(_ guest: GuestFacts) -> CheckLine {
        guard guest.isParavirtual else { return .ok("\(guest.name) is a PVH or HVM guest") }
        guard let xen = here.xen.value, !xen.hasShadow else {
            return .ok("\(guest.name) is a PV guest, and Xen has shadow paging")
        }
        return .problem(
            "\(guest.name) is a PV guest, which is refused: this Xen has no shadow paging to log its writes with; use a PVH"
                + " or HVM guest")
    }

    private func disks(_ guest: GuestFacts) -> CheckLine {
        let disks = guest.writableDisks
        guard !disks.isEmpty else { return .ok("\(guest.name) has no disks that it could write to") }
        return .problem(
            "\(guest.name) can write to \(disks.joined(separator: ", ")), and disks are not replicated: after a failover they"
                + " are newer than the guest's memory; keep its state elsewhere")
    }

    private func devices(_ guest: GuestFacts) -> CheckLine {
        let elsewhere = guest.networkDevices.filter(\.isElsewhere).map { "\($0.number)" }
        guard elsewhere.isEmpty else {
            return .problem(
                "\(guest.name)'s vif \(elsewhere.joined(separator: ", ")) is in a driver domain, where its output cannot be held:"
                    + " give the guest a vif of dom0's instead")
        }
        guard !guest.networkDevices.isEmpty else {
            return .problem(
                "\(guest.name) has no vif, so nobody could reach it after a failover and nothing is held: give it one, with"
                    + " a fixed mac=")
        }
        let count = guest.networkDevices.count
        return .ok("\(guest.name)'s output can be held: it has \(count) vif\(count == 1 ? "" : "s")")
    }

    private func passedThrough(_ guest: GuestFacts) -> [CheckLine] {
        guard !guest.passedThrough.isEmpty else { return [] }
        return [
            .problem(
                "\(guest.name) has PCI devices of this host (\(guest.passedThrough.joined(separator: ", "))), whose state cannot"
                    + " be copied, and is refused: give it vifs instead, and xl pci-detach them")
        ]
    }

    // MARK: The hosts

    private func atBoot(_ guest: GuestFacts) -> [CheckLine] {
        var hosts = guest.isStartedAtBoot ? [PairCheck.hereName] : []
        if looks[HostLook(.starts, guest.name)] == true { hosts.append(peer) }
        return hosts.map {
            .problem(
                "\($0) starts \(guest.name) when it boots (/etc/xen/auto), also while the other copy runs elsewhere: take it"
                    + " out of there")
        }
    }

    private func needs(_ guest: GuestFacts) -> [CheckLine] {
        guard there != nil else { return [] }
        var missing: [CheckLine] = []
        for need in guest.needs {
            switch looks[need.look] {
            case true: continue
            case false:
                missing.append(
                    .problem("\(peer) has no \(need.look.name), \(need.use): \(need.remedy)"))
            case nil:
                return missing + [
                    .problem(
                        "\(peer) does not say whether it has what \(guest.name) needs: install the same version of Romulus"
                            + " there")
                ]
            }
        }
        return missing.isEmpty ? [.ok("\(peer) has the bridges and programs that \(guest.name) needs")] : missing
    }

    // MARK: Memory

    private func memory(_ guest: GuestFacts) -> [CheckLine] {
        guard let there else { return [] }
        let buffers = bufferKiB(guest, there)
        var lines: [CheckLine] = []
        if let available = here.dom0AvailableKiB {
            lines.append(
                room(
                    "dom0 on \(PairCheck.hereName)", free: available.subtractingAtMost(here.sessionsKiB),
                    needed: stagingKiB(guest, there), what: "what waits for the link, and the pages that it keeps,",
                    remedy: "give dom0 more, or set staging_mib and page_cache_mib smaller"))
        }
        if let xen = there.xen.value {
            let fromDom0 =
                xen.takesFromDom0 ? (there.dom0AvailableKiB ?? 0).subtractingAtMost(buffers + there.sessionsKiB) : 0
            lines.append(
                room(
                    "Xen on \(peer)", free: xen.freeKiB + fromDom0, needed: guest.replicaKiB,
                    what: "\(guest.name)'s replica",
                    remedy: "end guests there, or give dom0 less (dom0_mem=)"))
        }
        if let available = there.dom0AvailableKiB {
            lines.append(
                room(
                    "dom0 on \(peer)", free: available.subtractingAtMost(there.sessionsKiB), needed: buffers,
                    what: "the epochs and pages that it keeps",
                    remedy: "give dom0 more, or set page_cache_mib and epoch_limit_mib smaller there"))
        } else {
            lines.append(.problem("\(peer) does not say how much memory its dom0 has free: look with free -m there"))
        }
        return lines
    }

    /// Epochs in which the guest has written everything, one that arrives, one that waits and one that libxl is given, and
    /// the pages that are kept to decode the next ones.
    private func bufferKiB(_ guest: GuestFacts, _ there: HostReport) -> UInt64 {
        var configuration = Configuration()
        configuration.epochLimitMiB = there.settings.value?.epochLimitMiB
        let most = configuration.epochLimitBytes(guestKiB: guest.memoryKiB) >> 10
        return 3 * UInt64(most) + cacheKiB(guest, there)
    }

    /// The native engine has staging of its own, as large as the relay's.
    private func stagingKiB(_ guest: GuestFacts, _ there: HostReport) -> UInt64 {
        var configuration = Configuration()
        configuration.stagingMiB = here.settings.value?.stagingMiB
        return 2 * UInt64(configuration.stagingBytes(guestKiB: guest.memoryKiB) >> 10) + cacheKiB(guest, there)
    }

    private func cacheKiB(_ guest: GuestFacts, _ there: HostReport) -> UInt64 {
        let slots = [here, there].map { report in
            var one = Configuration()
            one.pageCacheMiB = report.settings.value?.pageCacheMiB
            return one.pageSlots(guestKiB: guest.memoryKiB)
        }
        return UInt64(slots.min()! * PageFormat.pageBytes) >> 10
    }

    private func room(_ place: String, free: UInt64, needed: UInt64, what: String, remedy: String) -> CheckLine {
        let text = "\(place) has \(free >> 10) MiB free, and \(what) may take \((needed + 1023) >> 10)"
        return free >= needed ? .ok(text) : .problem("\(text): \(remedy)")
    }
}

extension UInt64 {
    /// Not below nothing.
    fileprivate func subtractingAtMost(_ other: UInt64) -> UInt64 { self > other ? self - other : 0 }
}
