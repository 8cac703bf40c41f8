import type { JsonObject } from "@/shared/api-types";

export interface Identity {
  key: string;
  default: boolean;
  label: string;
  role: string;
  customer_type: string | null;
  locations: string[];
}
export interface IdentityList { identities: Identity[]; agent: string; answered_by: string }
export interface PendingView { pending_id: string; tool: string; args: JsonObject; summary: string; expires_at: string }
export interface ConversationView {
  session_id: string;
  status: string;
  pending_actions: PendingView[];
  agent: string;
  title?: string | null;
  created_at: string;
  updated_at: string;
  turns: number;
  messages: number;
  running_turn_id: string | null;
}
export interface ConversationList { conversations: ConversationView[]; next: string | null }
export interface MessageView { seq: number; turn_id: string; role: string; body: JsonObject; created_at: string }
export interface MessageList { session_id: string; message_count: number; messages: MessageView[]; next: number | null }
