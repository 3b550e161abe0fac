/// What walks the guest's memory and writes libxc's stream.
public enum Engine: Sendable {
    /// Romulus's own; the stock one for a guest that is not for it.
    case native
    /// libxenguest's xc_domain_save.
    case stock
}
